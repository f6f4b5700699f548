"""Reads models in all formats without running code in them, and writes the official one."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from elf_lightning.checkpoints.config import ELFConfig, ModelBundle
from elf_lightning.checkpoints.hub import read_hub
from elf_lightning.checkpoints.locate import find_checkpoint, step_in_name
from elf_lightning.checkpoints.official import from_official, infer_config, to_official
from elf_lightning.checkpoints.torch_file import read_torch_file, save_torch_file
from elf_lightning.codec import TextCodec
from elf_lightning.errors import UserError, errors_about

OFFICIAL_MAX_LENGTH = 1024
_PREFIX = "network."
_T5_SIZES = (512, 32100)
_T5_CODEC = TextCodec(
    tokenizer="google-t5/t5-small",
    encoder={"class": "PretrainedEncoder", "name_or_path": "google-t5/t5-small", "layer": None},
    latent_mean=0.0,
    latent_std=0.2,
    max_length=OFFICIAL_MAX_LENGTH,
    pad_id=0,
    eos_id=1,
)
"""Tokenizer, encoder and normalisation of all published checkpoints."""


def load_model(
    name_or_path: str | Path,
    averaged: bool = True,
    max_length: int | None = None,
    max_condition_length: int | None = None,
    encoder: str | None = None,
    **download: Any,
) -> ModelBundle:
    """The model in a Lightning checkpoint, an official checkpoint or a Hub folder.

    No code in the file is executed. A file that cannot be found or read is a `UserError`.

    Args:
        name_or_path: a file, a folder (its newest checkpoint), an id on the Hugging Face Hub, or an installed
            package such as `elf_books`, also as `package:elf_books/model`.
        averaged: use the averaged weights, which sample better, instead of the last ones, if both exist.
        max_length: maximum length in tokens, for official checkpoints, which do not state it; default 1024.
        max_condition_length: maximum length of a condition, for official text-to-text checkpoints.
        encoder: where the model's encoder is, if it has moved since training: a folder, Hub id or package.
        download: options of `huggingface_hub.snapshot_download`, such as `revision` and `token`.
    """
    path = find_checkpoint(name_or_path, **download)
    with errors_about(f"checkpoint '{path}'"):
        bundle = read_hub(path) if path.is_dir() else _read_file(path, averaged)
        if encoder is not None:
            if (codec := bundle.config.codec) is None:
                raise UserError("it does not say how it uses an encoder; leave out the encoder")
            # A tokenizer that is read from there moves too.
            tokenizer = encoder if codec.tokenizer == codec.encoder["name_or_path"] else codec.tokenizer
            codec = replace(codec, encoder={**codec.encoder, "name_or_path": encoder}, tokenizer=tokenizer)
            bundle = replace(bundle, config=replace(bundle.config, codec=codec))
        return _with_lengths(bundle, max_length, max_condition_length)


def save_official(bundle: ModelBundle, path: str | Path) -> None:
    """Write a checkpoint with the official names, shapes and orientation, or raise a `UserError`.

    The official code samples from `ema_params1`, so the weights are stored there and under `params`.
    """
    weights = to_official(bundle.weights)
    save_torch_file({"params": weights, "ema_params1": weights, "step": bundle.config.step}, Path(path))


def _with_lengths(official: ModelBundle, length: int | None, condition: int | None) -> ModelBundle:
    """An official model with the given lengths, which its file does not contain."""
    codec, lengths = official.config.codec, {"max_length": length, "max_condition_length": condition}
    given = [name for name, value in lengths.items() if value is not None]
    if not given:
        return official
    if codec is not _T5_CODEC:
        raise UserError(
            f"{' and '.join(given)} can be set only for published checkpoints, whose files have no "
            "lengths; leave that out for this one"
        )
    length = OFFICIAL_MAX_LENGTH if length is None else length
    if length < 2:
        raise UserError(f"max_length is {length}; it must be at least 2")
    if condition is not None and not 1 <= condition < length:
        raise UserError(
            f"max_condition_length is {condition}; give 1 to {length - 1}, since max_length is {length}"
        )
    eos = condition is not None
    codec = replace(codec, max_length=length, max_condition_length=condition, condition_eos=eos)
    return replace(official, config=replace(official.config, max_length=length, codec=codec))


def _read_file(path: Path, averaged: bool) -> ModelBundle:
    content, size = read_torch_file(path), path.stat().st_size
    if "elf" in content:
        raw = not averaged and "current_model_state" in content
        state = _tensors(content, "current_model_state" if raw else "state_dict", size)
        if not isinstance(content["elf"], Mapping):
            raise UserError("its entry 'elf' is not the description of a model; use another file")
        weights = {name.removeprefix(_PREFIX): state[name] for name in state if name.startswith(_PREFIX)}
        return ModelBundle(ELFConfig.from_dict(content["elf"]), weights)
    if "params" in content or "ema_params1" in content:
        return _read_official(content, step_in_name(path), averaged, size)
    entries = ", ".join(sorted(map(str, content))[:8])
    raise UserError(
        "neither elf_lightning nor the official code wrote it: there is no 'elf', 'params' or "
        f"'ema_params1' among its entries ({entries}); use another file"
    )


def _read_official(content: Mapping[str, Any], step: int, averaged: bool, size: int) -> ModelBundle:
    wanted, other = ("ema_params1", "params") if averaged else ("params", "ema_params1")
    weights = from_official(_tensors(content, wanted if wanted in content else other, size))
    network, latent_size, vocab_size = infer_config(weights)
    config = ELFConfig(
        network=network,
        latent_size=latent_size,
        vocab_size=vocab_size,
        max_length=OFFICIAL_MAX_LENGTH,
        codec=_T5_CODEC if (latent_size, vocab_size) == _T5_SIZES else None,
        step=content["step"] if isinstance(content.get("step"), int) else step,
    )
    return ModelBundle(config, weights)


def _tensors(content: Mapping[str, Any], entry: str, size: int) -> dict[str, Tensor]:
    """The state dict at `entry`, copied into memory, from a file of `size` bytes."""
    found = content.get(entry)
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"its entry '{entry}' is not a state dict of tensors; use another file")
    # Repeated elements take no space in the file.
    if (declared := sum(value.nbytes for value in found.values())) > size:
        raise UserError(
            f"its entry '{entry}' declares {declared:,} bytes, but the file has {size:,}; use another file"
        )
    return {str(name): value.clone() for name, value in found.items()}
