"""Logged metrics as text: short names and sensible numbers of digits."""

import textwrap
from collections.abc import Iterable, Mapping

from torch import Tensor

_NAMES = {
    "decode_accuracy": "acc",
    "clean_decode_accuracy": "clean acc",
    "gradient_norm": "grad",
    "learning_rate": "lr",
    "tokens_per_second": "tok/s",
    "skipped_steps": "skipped",
}
_ORDER = ("loss", "denoise", "decode", "acc", "clean acc", "grad", "lr", "tok/s", "mfu")
_SPACE = "\N{NO-BREAK SPACE}"


def short_metrics(metrics: Mapping[str, Tensor], section: str) -> dict[str, str]:
    """Metrics under short names, as text; reads their values from the device.

    The section `val` has the metrics whose names start with val, `train` all others. The variants that
    Lightning adds for steps and epochs (`…_step`, `…_epoch`) are left out.
    """
    texts = {}
    for full_name, value in metrics.items():
        if full_name.startswith("val") == (section == "val") and not full_name.endswith(("_step", "_epoch")):
            name = full_name.removeprefix(section).lstrip("/_")
            short = _NAMES.get(name) or name.removesuffix("_loss").replace("_", " ")
            texts[short] = _text(name, float(value))
    return {name: texts[name] for name in sorted(texts, key=lambda name: ((*_ORDER, name).index(name), name))}


def lines(items: Iterable[str], width: int) -> list[str]:
    """Items separated by two spaces, in lines of at most `width` that break between items."""
    text = "  ".join(item.replace(" ", _SPACE) for item in items)
    wrapped = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return [line.replace(_SPACE, " ") for line in wrapped]


def magnitude(value: float) -> str:
    """Three digits and a unit: 999, 12.3k, 105M, 1.85G."""
    units = ["", "k", "M", "G", "T", "P"]
    while abs(value) >= 999.5 and len(units) > 1:
        value /= 1000
        del units[0]
    return f"{value:.3g}{units[0]}"


def _text(name: str, value: float) -> str:
    if name.endswith(("accuracy", "mfu", "repetition")):
        return f"{value:.1%}"
    if name in ("learning_rate", "skipped_steps"):
        return f"{value:.2g}" if name == "learning_rate" else f"{value:.0f}"
    return magnitude(value) if name == "tokens_per_second" or abs(value) >= 1000 else f"{value:.3f}"
