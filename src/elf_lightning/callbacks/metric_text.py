"""Logged metrics as a person reads them: short names, as many digits as say something."""

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
_SHARES = ("accuracy", "mfu", "repetition")
_UNITS = ("", "k", "M", "G", "T", "P")
_ORDER = ("loss", "denoise", "decode", "acc", "clean acc", "grad", "lr", "tok/s", "mfu")


def short_metrics(metrics: Mapping[str, Tensor], prefix: str) -> dict[str, str]:
    """The metrics named `prefix/…` under short names, as text; asks the device for their values.

    The names as Lightning forks them for steps and epochs (`…_step`, `…_epoch`) are left out.
    """
    named = {
        name.removeprefix(f"{prefix}/"): value for name, value in metrics.items() if name.startswith(prefix)
    }
    texts = {
        _short(name): _text(name, float(value))
        for name, value in named.items()
        if not name.endswith(("_step", "_epoch"))
    }
    return {name: texts[name] for name in sorted(texts, key=_place)}


def words(metrics: Mapping[str, str]) -> list[str]:
    """A name and its value each: `loss 2.184`."""
    return [f"{name} {value}" for name, value in metrics.items()]


def lines(items: Iterable[str], width: int) -> list[str]:
    """Items two spaces apart, none of them broken, in lines of at most `width`."""
    result = [""]
    for item in items:
        longer = f"{result[-1]}  {item}".strip()
        if len(longer) <= width or not result[-1]:
            result[-1] = longer
        else:
            result.append(item)
    return result


def _short(name: str) -> str:
    return _NAMES.get(name) or name.removesuffix("_loss").replace("_", " ")


def _place(name: str) -> tuple[int, str]:
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)


def _text(name: str, value: float) -> str:
    if name.endswith(_SHARES):
        return f"{value:.1%}"
    if name == "learning_rate":
        return f"{value:.2g}"
    if name == "skipped_steps":
        return f"{value:.0f}"
    counted = name == "tokens_per_second" or abs(value) >= 1000
    return magnitude(value) if counted else f"{value:.3f}"


def magnitude(value: float) -> str:
    """Three digits and a unit: 999, 12.3k, 105M, 1.85G."""
    power = 0
    while abs(value) >= 999.5 and power < len(_UNITS) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g}{_UNITS[power]}"
