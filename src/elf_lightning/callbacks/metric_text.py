"""Logged metrics as text: short names and sensible numbers of digits."""

from __future__ import annotations

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
_PERCENTAGES = ("accuracy", "mfu", "repetition")
_UNITS = ("", "k", "M", "G", "T", "P")
_ORDER = ("loss", "denoise", "decode", "acc", "clean acc", "grad", "lr", "tok/s", "mfu")


def short_metrics(metrics: Mapping[str, Tensor], section: str) -> dict[str, str]:
    """Metrics under short names, as text; reads their values from the device.

    The variants that Lightning adds for steps and epochs (`…_step`, `…_epoch`) are left out.

    Args:
        metrics: by name.
        section: `val` for the metrics whose names start with val, `train` for all others.
    """
    texts = {}
    for full_name, value in metrics.items():
        if full_name.startswith("val") == (section == "val") and not full_name.endswith(("_step", "_epoch")):
            name = full_name.removeprefix(section).lstrip("/_")
            texts[_short(name)] = _text(name, float(value))
    return {name: texts[name] for name in sorted(texts, key=_place)}


def words(metrics: Mapping[str, str]) -> list[str]:
    """Each name with its value: `loss 2.184`."""
    return [f"{name} {value}" for name, value in metrics.items()]


def lines(items: Iterable[str], width: int) -> list[str]:
    """Items separated by two spaces, in lines of at most `width` that break between items."""
    result = [""]
    for item in items:
        longer = f"{result[-1]}  {item}".strip()
        if len(longer) <= width or not result[-1]:
            result[-1] = longer
        else:
            result.append(item)
    return result


def magnitude(value: float) -> str:
    """Three digits and a unit: 999, 12.3k, 105M, 1.85G."""
    power = 0
    while abs(value) >= 999.5 and power < len(_UNITS) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g}{_UNITS[power]}"


def _short(name: str) -> str:
    return _NAMES.get(name) or name.removesuffix("_loss").replace("_", " ")


def _place(name: str) -> tuple[int, str]:
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)


def _text(name: str, value: float) -> str:
    if name.endswith(_PERCENTAGES):
        return f"{value:.1%}"
    if name == "learning_rate":
        return f"{value:.2g}"
    if name == "skipped_steps":
        return f"{value:.0f}"
    return magnitude(value) if name == "tokens_per_second" or abs(value) >= 1000 else f"{value:.3f}"
