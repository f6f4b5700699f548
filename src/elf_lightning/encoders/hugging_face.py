"""Reads pretrained configs, weights and tokenizers from a folder, the Hub, or a package."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from elf_lightning.errors import INSTALL_EMBEDDED, UserError, first_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

PACKAGE_PREFIX = "package:"
GGUF_SUFFIX = ".gguf"
POSITIONS_AFTER_PAD = ("roberta", "camembert", "mpnet", "xmod")
"""Families whose position ids start after the pad id."""


def resolve_folder(name_or_path: str) -> str:
    """The folder or GGUF file of `package:NAME/PATH`, or the name of another folder or on the Hub.

    The package is located without importing it. A `UserError` if there is no such package, or PATH in it.
    """
    if not name_or_path.startswith(PACKAGE_PREFIX):
        return str(Path(name_or_path).expanduser()) if name_or_path.startswith("~") else name_or_path
    package, _, inside = name_or_path.removeprefix(PACKAGE_PREFIX).partition("/")
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or spec.origin is None:
        raise UserError(
            f"'{name_or_path}': package '{package}' is not installed; the embedded packages come with "
            f"`{INSTALL_EMBEDDED}`, elf_books with `pip install ./models/elf_books` in the repository"
        )
    if Path(inside).is_absolute() or ".." in Path(inside).parts:
        raise UserError(f"'{name_or_path}' is outside the package '{package}'; give a folder in it")
    path = Path(spec.origin).parent / inside
    what = "file" if path.suffix == GGUF_SUFFIX else "folder"
    if not path.is_dir() and not (what == "file" and path.is_file()):
        raise UserError(f"'{name_or_path}': package '{package}' has no {what} '{inside}'; check the name")
    return str(path)


def weights_stamp(name_or_path: str) -> list[list[Any]]:
    """Name, size and modification time of local weight files; empty for a model on the Hub."""
    path = Path(resolve_folder(name_or_path))
    inside = sorted(file for file in path.glob("*") if file.suffix in (".safetensors", ".bin"))
    files = [path] if path.is_file() else inside
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


@contextmanager
def silent_hub_retries() -> Iterator[None]:
    """Silence the Hub client's messages about retries, so that a failure is reported once."""
    from huggingface_hub.utils.logging import get_verbosity, set_verbosity

    before = get_verbosity()
    set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        set_verbosity(before)


@contextmanager
def _reading(what: str, name_or_path: str) -> Iterator[dict[str, Any]]:
    """Arguments of `from_pretrained`, which reports in one line that a part of a model could not be read."""
    path = Path(place := resolve_folder(name_or_path))
    # Without the second, transformers asks whether to run the code in a model's folder.
    arguments: dict[str, Any] = {"pretrained_model_name_or_path": place, "trust_remote_code": False}
    if path.suffix == GGUF_SUFFIX:
        arguments |= {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    try:
        with silent_hub_retries():
            yield arguments
    except UserError:
        raise
    except Exception as error:  # a damaged file ends in any error of transformers and its packages
        raise UserError(
            f"{what} '{name_or_path}' could not be read ({first_line(error)}); "
            "give a local folder, or a Hub id with network access or a downloaded model"
        ) from error


def read_config(name_or_path: str) -> "PretrainedConfig":
    """The config of a model."""
    from transformers import AutoConfig

    with _reading("encoder", name_or_path) as arguments:
        config: PretrainedConfig = AutoConfig.from_pretrained(**arguments)
    return config


def encoder_sizes(config: "PretrainedConfig") -> Any:
    """The sizes of the text encoder; T5Gemma has separate ones for decoder and images."""
    sizes = getattr(config, "encoder", config)
    return getattr(sizes, "text_config", sizes)


def position_limit(config: Any) -> int | None:
    """The maximum length in tokens given by learned positions; None for no limit."""
    limit = getattr(config, "max_position_embeddings", None)
    after_pad = any(family in config.model_type for family in POSITIONS_AFTER_PAD)
    return limit if limit is None else int(limit) - (config.pad_token_id + 1 if after_pad else 0)


def read_model(
    name_or_path: str, config: "PretrainedConfig", attn_implementation: str | None
) -> "PreTrainedModel":
    """The model's encoder in float32, without the decoder of an encoder-decoder."""
    from transformers import AutoModel, AutoModelForTextEncoding, GgufConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING

    text_encoder = type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING
    reader = AutoModelForTextEncoding if text_encoder else AutoModel
    if text_encoder:
        # T5Gemma's encoder cannot be built from an encoder-decoder config.
        config = deepcopy(config)
        config.is_encoder_decoder = False
    with _reading("encoder weights", name_or_path) as arguments:
        if "gguf_file" in arguments:
            arguments["quantization_config"] = GgufConfig(dequantize=True)
        arguments |= {"config": config, "attn_implementation": attn_implementation, "dtype": torch.float32}
        try:
            model: PreTrainedModel = reader.from_pretrained(**arguments)
        except ValueError as error:
            if attn_implementation is None:
                raise
            raise UserError(
                f"encoder attn_implementation '{attn_implementation}' is not available for '{name_or_path}'; "
                "leave it out to use the fastest available"
            ) from error
    return model.get_encoder() if config.is_encoder_decoder and not text_encoder else model


def read_tokenizer(name_or_path: str) -> "PreTrainedTokenizerBase":
    """The tokenizer, or a `UserError`; without the warning about long texts, which are cut later."""
    from transformers import AutoTokenizer

    with _reading("tokenizer", name_or_path) as arguments:
        arguments["model_max_length"] = int(1e30)
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(**arguments)
    return tokenizer


def token_ids(tokenizer: "PreTrainedTokenizerBase", texts: list[str]) -> list[list[int]]:
    """The ids of each text, without special tokens, whose names in a text are ordinary text."""
    left_out = ("add_special_tokens", "return_attention_mask", "return_token_type_ids")
    how = {**dict.fromkeys(left_out, False), "split_special_tokens": True}
    try:
        ids: list[list[int]] = tokenizer(texts, **how)["input_ids"]
    except Exception as error:  # such as a token that it lacks
        raise UserError(
            f"tokenizer '{tokenizer.name_or_path}' cannot encode a text ({first_line(error)}); use another"
        ) from error
    return ids
