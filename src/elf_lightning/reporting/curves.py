"""Loss curves: from the run's CSV log to plots."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from elf_lightning.reporting.axes import Axis, Frame

Curve = Sequence[tuple[int, float]]
"""Steps and values, by step."""

PANELS = {
    "Denoise loss": ("train/denoise_loss", "val/denoise_loss"),
    "Decode loss": ("train/decode_loss", "val/decode_loss"),
    "Decode accuracy": ("train/decode_accuracy", "val/decode_accuracy"),
    "Gen. PPL of samples": (None, "val/gen_ppl"),
    "Entropy of samples": (None, "val/entropy"),
    "Repetition of samples": (None, "val/repetition"),
}
"""Title of a plot -> columns of the log: while training, and on validation text."""
MOST_POINTS = 200
"""Of a line: more are averaged, since nobody could tell them apart."""


def read_curves(folder: Path) -> dict[str, Curve]:
    """All columns of the CSV logs in a run's folder; where a run went on after a stop, the later log counts.

    A log without a column of training is of a later validation or test, which has no steps, and is left out.

    Args:
        folder: the run's, searched for `metrics.csv`.
    """
    found: dict[str, dict[int, float]] = {}
    for path in sorted(folder.rglob("metrics.csv"), key=lambda path: path.stat().st_mtime_ns):
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        if not any(name.startswith("train/") for row in rows[:1] for name in row):
            continue
        for row in rows:
            for name, value in row.items():
                if name not in ("step", "epoch") and value and row.get("step"):
                    found.setdefault(name, {})[int(row["step"])] = float(value)
    return {name: sorted(values.items()) for name, values in found.items()}


def curve_plots(curves: Mapping[str, Curve], width: int) -> str:
    """A plot for each panel of which the log has a column; nothing without a log.

    Args:
        curves: columns of the log.
        width: of a plot, in pixels.
    """
    panels = []
    for title, (train, validation) in PANELS.items():
        lines = {"train": curves.get(train or "", ()), "validation": curves.get(validation, ())}
        drawn = {kind: thinned(_finite(curve)) for kind, curve in lines.items() if _finite(curve)}
        if drawn:
            last = " ".join(f'<b class="{kind}">{line[-1][1]:.4g}</b>' for kind, line in drawn.items())
            plot = _plot(title, drawn, width)
            panels.append(f"<figure><figcaption>{title} {last}</figcaption>{plot}</figure>")
    return "".join(panels)


def thinned(curve: Curve, most: int = MOST_POINTS) -> Curve:
    """The curve with at most so many points, each the mean of its neighbours."""
    size = math.ceil(len(curve) / most)
    parts = [curve[start : start + size] for start in range(0, len(curve), size)] if curve else []
    return [(part[-1][0], fmean(value for _, value in part)) for part in parts]


def _finite(curve: Curve) -> Curve:
    return [(step, value) for step, value in curve if math.isfinite(value)]


def _plot(title: str, lines: Mapping[str, Curve], width: int) -> str:
    points = [point for line in lines.values() for point in line]
    steps = Axis.around("step", [step for step, _ in points], margin=0.02)
    frame = Frame(width, 190, steps, Axis.around("", [value for _, value in points]))
    content = "".join(_line(frame, kind, line) for kind, line in lines.items())
    last = ", ".join(f"{kind} ends at {line[-1][1]:.4g}" for kind, line in lines.items())
    return frame.svg(content, f"{title} by step: {last}")


def _line(frame: Frame, kind: str, line: Curve) -> str:
    path = " ".join(f"{frame.across(step)},{frame.down(value)}" for step, value in line)
    step, value = line[-1]
    return (
        f'<polyline class="line {kind}" points="{path}"/>'
        f'<circle class="dot {kind}" cx="{frame.across(step)}" cy="{frame.down(value)}" r="3.5">'
        f"<title>{kind}: {value:.4g} at step {step}</title></circle>"
    )
