"""The Hub format: `model.safetensors`, `config.json` and a model card in one folder."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from elf_lightning.checkpoints.config import ELFConfig, ModelBundle
from elf_lightning.checkpoints.locate import CONFIG_NAME, WEIGHTS_NAME
from elf_lightning.errors import UserError
from elf_lightning.storage import DIGESTS, check_digests, write_digests
from elf_lightning.whole_file import write_whole

CARD_NAME = "README.md"
TOKENIZER_NAME = "tokenizer"
"""Subfolder; if it exists, it is used instead of the tokenizer named in `config.json`."""
WORDS_NAME = "words.txt"
"""Words of the training text, for sampling with `known_words`."""
FORMAT_VERSION, INT8_VERSION = 2, 3
READABLE_VERSIONS = (1, 2, 3)
"""Version 1 calls the entry `codec` `decoding`; version 3 is 2 with matrices in int8."""
_DIRECTION = "repetition_direction"
_SCALE = ".scale"
LEVELS = 127
"""Largest magnitude of an int8; -128 is unused, so that zero is in the middle."""


def save_hub(bundle: ModelBundle, folder: str | Path) -> None:
    """Write `bundle` and the digests of its files into `folder`, or raise a `UserError`."""
    folder = Path(folder)
    weights = {name: value.contiguous() for name, value in bundle.weights.items()}
    if bundle.dtype == "int8":
        weights = quantize(weights)
    elif bundle.dtype is not None:
        weights = {name: value.to(getattr(torch, bundle.dtype)) for name, value in weights.items()}
    if bundle.repetition_direction is not None:
        weights[_DIRECTION] = bundle.repetition_direction.contiguous()
    write_whole(folder / WEIGHTS_NAME, save(weights, metadata={"format": "pt"}))
    version = INT8_VERSION if bundle.dtype == "int8" else FORMAT_VERSION
    config = {"model_type": "elf", "format_version": version, **bundle.config.to_dict()}
    # The vocabulary has thousands of ids: lists of numbers go on one line.
    text = re.sub(
        r"\[\n[^\]\"]+\]", lambda numbers: json.dumps(json.loads(numbers[0])), json.dumps(config, indent=2)
    )
    write_whole(folder / CONFIG_NAME, text + "\n")
    codec = bundle.config.codec
    if codec is not None and codec.words is not None:
        write_whole(folder / WORDS_NAME, "\n".join([*codec.words, ""]))
    write_whole(folder / CARD_NAME, model_card(bundle))
    write_digests(folder, CARD_NAME)  # people edit the card


def read_hub(folder: Path) -> ModelBundle:
    """Read the model in `folder`."""
    try:
        config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{CONFIG_NAME} is damaged ({error}); copy it again") from error
    if not isinstance(config, dict) or config.get("model_type") != "elf":
        raise UserError(
            f"{CONFIG_NAME} has no model_type 'elf', so this is another kind of model; give an ELF model"
        )
    if config.get("format_version") not in READABLE_VERSIONS:
        raise UserError(
            f"{CONFIG_NAME} has format_version {config.get('format_version')}, but this version of "
            f"elf_lightning reads only {READABLE_VERSIONS[-1]} and older; upgrade elf_lightning"
        )
    try:
        stored = load_file(folder / WEIGHTS_NAME)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{WEIGHTS_NAME} is damaged ({error}); copy it again") from error
    direction = stored.pop(_DIRECTION, None)
    quantized = any(value.dtype == torch.int8 for value in stored.values())
    described = ELFConfig.from_dict(config)
    if (codec := described.codec) is not None:
        if (tokenizer := folder / TOKENIZER_NAME).is_dir():
            codec = replace(codec, tokenizer=str(tokenizer))
        if (words := folder / WORDS_NAME).is_file():
            codec = replace(codec, words=words.read_text("utf-8", "replace").splitlines())
        described = replace(described, codec=codec)
    bundle = ModelBundle(described, dequantize(stored), direction, "int8" if quantized else None)
    # Last, so that a file of another kind is reported as such.
    try:
        check_digests(folder)
    except UserError as error:
        raise UserError(f"{error}; copy it again, or delete {DIGESTS} if the change is yours") from error
    return bundle


def model_card(bundle: ModelBundle) -> str:
    """The model card: Markdown with metadata for the Hub."""
    config, network = bundle.config, bundle.config.network
    encoder = "not recorded" if config.codec is None else config.codec.encoder["name_or_path"]
    return f"""---
library_name: elf-lightning
pipeline_tag: text-generation
tags:
- embedded-language-flows
- flow-matching
- diffusion-language-model
---

# Embedded Language Flow, {bundle.num_parameters / 1e6:.1f}M parameters

A language model that runs flow matching in the embedding space of a frozen text encoder
([arXiv 2605.10938](https://arxiv.org/abs/2605.10938)) and decodes with the same network in the last step.

| | |
|---|---|
| transformer | {network.depth} blocks, width {network.hidden_size}, {network.num_heads} heads |
| sequences | {config.max_length} tokens, vocabulary of {config.vocab_size} |
| encoder | {encoder} |
| training steps | {config.step} |
| sampling | {config.default_sampling.short_name} |

```python
from elf_lightning import ELF

model = ELF.from_pretrained("path or id of this model")
print(*model.generate(num=4, seed=0), sep="\\n\\n")
```
"""


def quantize(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each matrix (out, in) as int8 with a float32 `NAME.scale` (out): largest magnitude of a row / 127."""
    stored = dict(weights)
    for name, matrix in ((name, value.float()) for name, value in weights.items() if value.dim() == 2):
        scale = matrix.abs().amax(1) / LEVELS
        stored[name] = (matrix / torch.where(scale > 0, scale, 1.0)[:, None]).round().to(torch.int8)
        stored[name + _SCALE] = scale
    return stored


def dequantize(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights with float32 matrices: each int8 value times the scale of its row."""
    weights = dict(stored)
    for name in (name for name, value in stored.items() if value.dtype == torch.int8):
        scale, problem = weights.pop(name + _SCALE, torch.empty(0)), ""
        if scale.shape != stored[name].shape[:1]:
            problem = "are missing or do not fit it"
        elif not (scale.isfinite() & (scale >= 0)).all():
            problem = "are not all finite and positive"
        if problem:
            raise UserError(f"the scales of '{name}' {problem}; copy {WEIGHTS_NAME} again")
        weights[name] = stored[name].float() * scale.float()[:, None]
    return weights
