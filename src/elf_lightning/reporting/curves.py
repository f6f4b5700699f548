"""Training curves: from the run's CSV log to plots."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from markupsafe import Markup

from elf_lightning.metrics import metric_numbers
from elf_lightning.reporting.figures import COLOURS, new_axes, svg

Curve = Sequence[tuple[int, float]]
"""Steps and values, by step."""

LOSSES = {"denoise_loss": "Denoise loss", "decode_loss": "Decode loss", "decode_accuracy": "Decode accuracy"}
"""Titles of what is logged as `train/NAME` and `val/NAME`; metrics of samples are logged as `val/NAME`."""
MAX_POINTS = 200
"""Of a line: neighbours beyond that are averaged, as they could not be told apart."""


def read_curves(folder: Path) -> dict[str, Curve]:
    """All columns of the CSV logs in a run's folder; for a step that was logged twice, the later log wins.

    A log without training columns comes from a later validation or test, which has no steps, and is left out.

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


def curve_panels(curves: Mapping[str, Curve], width: int) -> Iterator[tuple[str, dict[str, float], Markup]]:
    """Yield title, last values (by `train` and `validation`) and plot of the losses and metrics in the log.

    Args:
        curves: columns of the log.
        width: of a plot, in pixels.
    """
    known, logged = metric_numbers(), [name.removeprefix("val/") for name in curves]
    samples = {name: f"{known[name].title.removesuffix(' %')} of samples" for name in logged if name in known}
    for name, title in (LOSSES | samples).items():
        columns = {"train": curves.get(f"train/{name}", ()), "validation": curves.get(f"val/{name}", ())}
        lines = {kind: averaged([p for p in line if math.isfinite(p[1])]) for kind, line in columns.items()}
        lines = {kind: line for kind, line in lines.items() if line}
        if lines:
            yield title, {kind: line[-1][1] for kind, line in lines.items()}, _plot(title, lines, width)


def averaged(curve: Curve, max_points: int = MAX_POINTS) -> Curve:
    """The curve with at most `max_points` points, each the mean of its neighbours."""
    size = math.ceil(len(curve) / max_points)
    parts = [curve[start : start + size] for start in range(0, len(curve), size)] if curve else []
    return [(part[-1][0], fmean(value for _, value in part)) for part in parts]


def _plot(title: str, lines: Mapping[str, Curve], width: int) -> Markup:
    axes = new_axes(width, 190, "step")
    axes.margins(0.02, 0.08)
    for kind, line in lines.items():
        colour = COLOURS["train" if kind == "train" else "model"]
        axes.plot(*zip(*line, strict=True), color=colour, linewidth=1.8, marker="o", markevery=[-1], gid=kind)
    tooltips = {kind: f"{kind}: {line[-1][1]:.4g} at step {line[-1][0]}" for kind, line in lines.items()}
    last = ", ".join(f"{kind} ends at {line[-1][1]:.4g}" for kind, line in lines.items())
    return svg(axes, f"{title} by step: {last}", tooltips)
