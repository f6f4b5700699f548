"""The plots of a report, which take the page's fonts and colours, in light and dark mode."""

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import Locator, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

from elf_lightning.metrics import metric_numbers
from elf_lightning.reporting.scores import Scores, pareto_optimal

Curve = Sequence[tuple[int, float]]
"""Steps and values, by step."""

LOSSES = {"denoise_loss": "Denoise loss", "decode_loss": "Decode loss", "decode_accuracy": "Decode accuracy"}
"""Titles of what is logged as `train/NAME` and `val/NAME`; metrics of samples are logged as `val/NAME`."""
MAX_POINTS = 200  # of a line: neighbours beyond that are averaged, as they could not be told apart
PUBLISHED = {"ELF 105M": (24.1, 5.15), "ELF 342M": (21.7, 5.18), "ELF 652M": (23.3, 5.28)}
"""Gen. PPL and entropy in arXiv 2605.10938: OpenWebText, 1,024 tokens, under `PUBLISHED_SCORING_MODEL`."""
PUBLISHED_SCORING_MODEL = "gpt2-large"
STYLES: dict[str, dict[str, Any]] = {
    "real": {"label": "real text", "colour": "real", "marker": "D", "opacity": 1},
    "shuffled": {"label": "shuffled", "colour": "shuffled", "marker": "^", "size": 12},
    "published": {"colour": "published", "marker": "s", "opacity": 0},
}
"""Shapes differ as well as colours; the model has circles."""
VARIABLES = ("quiet", "line", "model", "real", "shuffled", "published", "train")
COLOURS = {name: f"#0000{number:02x}" for number, name in enumerate(VARIABLES, start=1)}
"""Stand-ins for the page's CSS variables, which matplotlib does not know."""
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 16, 40  # margins around the axes, in pixels
DISTANCES = (12, 24, 40, 60, 84)
DIRECTIONS = ((1, 0), (-1, 0), (0, 1.3), (0, -1.3), (1, 1), (1, -1), (-1, 1), (-1, -1))
"""How far from its point a label may be, in pixels, and where: right, left, above, below, between."""


def read_curves(folder: Path) -> dict[str, Curve]:
    """All columns of the `metrics.csv` below a run's folder; for a step logged twice, the later log wins.

    A log without training columns comes from a later validation or test, which has no steps, and is left out.
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


def averaged(curve: Curve, max_points: int = MAX_POINTS) -> Curve:
    """The curve with at most `max_points` points, each the mean of its neighbours."""
    size = math.ceil(len(curve) / max_points) or 1
    parts = [curve[start : start + size] for start in range(0, len(curve), size)]
    return [(part[-1][0], fmean(value for _, value in part)) for part in parts]


def curve_panels(curves: Mapping[str, Curve], width: int) -> Iterator[tuple[str, dict[str, float], Markup]]:
    """Yield title, last values (by `train` and `validation`) and plot of each loss and metric in the log."""
    known, logged = metric_numbers(), [name.removeprefix("val/") for name in curves]
    samples = {name: f"{known[name].title.removesuffix(' %')} of samples" for name in logged if name in known}
    for name, title in (LOSSES | samples).items():
        axes, last, tooltips = new_axes(width, 190, "step"), dict[str, float](), dict[str, str]()
        axes.margins(0.02, 0.08)
        for kind, column, colour in (("train", "train", "train"), ("validation", "val", "model")):
            points = [point for point in curves.get(f"{column}/{name}", ()) if math.isfinite(point[1])]
            if line := averaged(points):
                style: dict[str, Any] = {"color": COLOURS[colour], "linewidth": 1.8, "gid": kind}
                axes.plot(*zip(*line, strict=True), marker="o", markevery=[-1], **style)
                step, last[kind] = line[-1]
                tooltips[kind] = f"{kind}: {last[kind]:.4g} at step {step}"
        if last:
            ends = ", ".join(f"{kind} ends at {value:.4g}" for kind, value in last.items())
            yield title, last, svg(axes, f"{title} by step: {ends}", tooltips)


def frontier_plots(rows: Sequence[Scores], scoring_model: str, width: int) -> Iterator[tuple[str, Markup]]:
    """Yield a scoring model and its plot: sampling configurations, real and shuffled text, published points.

    The published points have axes of their own unless the scoring model is theirs. With several sampling
    configurations, the Pareto-optimal ones are numbered in the order of `pareto_optimal`. The width, in
    pixels, is that of all plots together if it is enough for two, else of each.
    """
    source, style = f"published, scoring model {PUBLISHED_SCORING_MODEL}", STYLES["published"]
    published = [_mark(f"{name}, {source}", xy, {"label": name} | style) for name, xy in PUBLISHED.items()]
    rows = [row for row in rows if row.kind != "published"]  # its scoring model may be another one
    sampled = [row for row in rows if row.kind == "sampled"]
    optimal = pareto_optimal(sampled)
    marks = []
    # The numbered ones last, so that they are not hidden under others.
    for row in sorted(rows, key=lambda row: (row.kind == "sampled", row in optimal)):
        style = {"label": "" if row.kind == "sampled" else row.name} | STYLES.get(row.kind, {})
        if row in optimal:
            label = str(optimal.index(row) + 1) if len(sampled) > 1 else "this model"
            style = {"label": label, "opacity": 1}
        marks.append(_mark(row.name, row.point, style))
    front = sorted(row.point for row in optimal)
    if scoring_model.endswith(PUBLISHED_SCORING_MODEL):
        yield scoring_model, _frontier([*marks, *published], front, scoring_model, width)
        return
    beside = width > 600
    first, second = (round(width * 0.66), round(width * 0.34)) if beside else (width, width)
    yield scoring_model, _frontier(marks, front, scoring_model, first)
    theirs = f"{PUBLISHED_SCORING_MODEL} (published)"
    yield theirs, _frontier(published, [], theirs, second, 340 if beside else 200)


@dataclass(frozen=True)
class Mark:
    """A point of a plot: its place, text on hovering and beside it, colour (of `COLOURS`), and shape."""

    point: tuple[float, float]
    tooltip: str
    label: str
    colour: str = "model"
    marker: str = "o"
    size: int = 10
    opacity: float = 0.3


def _mark(name: str, point: tuple[float, float], style: Mapping[str, Any]) -> Mark:
    return Mark(point, f"{name}: Gen. PPL {point[0]:.1f}, entropy {point[1]:.2f}", **style)


def _frontier(
    marks: Sequence[Mark], front: Sequence[tuple[float, float]], model: str, width: int, height: int = 340
) -> Markup:
    axes = new_axes(width, height, "Gen. PPL", "entropy, nats", log=True)
    axes.margins(0.15)
    if len(front) > 1:
        axes.step(*zip(*front, strict=True), where="post", color=COLOURS["model"], dashes=(4, 4), linewidth=1)
    tooltips = draw_marks(axes, marks)
    return svg(axes, f"Scoring model {model}. {'; '.join(tooltips.values())}", tooltips)


def new_axes(width: int, height: int, x_title: str, y_title: str = "", log: bool = False) -> Axes:
    """Axes of a plot of this size in pixels; `log` is for x."""
    figure = Figure((width / 72, height / 72), dpi=72)
    across, down = (width - LEFT - RIGHT) / width, (height - TOP - BOTTOM) / height
    axes = figure.add_axes((LEFT / width, BOTTOM / height, across, down), frame_on=False)
    figure.patch.set_visible(False)
    axes.set_xscale("log" if log else "linear")
    axes.set_xlabel(x_title, fontsize=12, color=COLOURS["quiet"])
    axes.set_title(y_title, loc="left", fontsize=12, color=COLOURS["quiet"], pad=3)
    axes.tick_params(which="both", length=0, labelsize=11, labelcolor=COLOURS["quiet"])
    axes.grid(color=COLOURS["line"], linewidth=1)
    axes.set_axisbelow(True)
    return axes


def draw_marks(axes: Axes, marks: Sequence[Mark]) -> dict[str, str]:
    """Draw marks with their labels; their tooltips for `svg`."""
    for number, mark in enumerate(marks):
        edge = COLOURS[mark.colour]
        (point,) = axes.plot(*mark.point, mark.marker, ms=mark.size, gid=f"mark{number}")
        point.set(markeredgecolor=edge, markerfacecolor=(edge, mark.opacity), markeredgewidth=1.5)
    axes.autoscale_view()
    _place_labels(axes, [mark for mark in marks if mark.label], [mark.point for mark in marks])
    return {f"mark{number}": mark.tooltip for number, mark in enumerate(marks)}


def _place_labels(axes: Axes, marks: Sequence[Mark], points: Sequence[tuple[float, float]]) -> None:
    """Write labels near their points, or with a line to them, without overlap; drop those without room."""
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in axes.transData.transform(points)]
    arrow = {"arrowstyle": "-", "color": COLOURS["quiet"], "linewidth": 0.8}
    style: dict[str, Any] = {"fontsize": 12, "ha": "center", "va": "center", "parse_math": False}
    for mark in marks:
        text = axes.annotate(mark.label, mark.point, (0, 0), "data", "offset points", arrow, **style)
        text.set_color(COLOURS[mark.colour])
        width, height, (x, y) = Text.get_window_extent(text).width, 14, axes.transData.transform(mark.point)
        for distance, (across, up) in product(DISTANCES, DIRECTIONS):
            offset = across * (distance + width / 2), up * distance
            box = Bbox.from_bounds(x + offset[0] - width / 2, y + offset[1] - height / 2, width, height)
            inside = axes.bbox.contains(*box.min) and axes.bbox.contains(*box.max)
            if inside and not box.count_overlaps(taken):
                taken.append(box)
                text.set_position(offset)
                if text.arrow_patch is not None and (not up or distance == DISTANCES[0]):
                    text.arrow_patch.set_visible(False)
                break
        else:
            text.remove()


def svg(axes: Axes, description: str, tooltips: Mapping[str, str]) -> Markup:
    """The plot as an SVG element, with a description for screen readers, and tooltips by `gid`."""
    for axis, length, (low, high) in (
        (axes.xaxis, axes.bbox.width / 64, axes.get_xlim()),
        (axes.yaxis, axes.bbox.height / 40, axes.get_ylim()),
    ):
        # Few round numbers, also on a logarithmic axis.
        locator: Locator = MaxNLocator(max(2, int(length)), steps=[1, 2, 5, 10])
        if axis.get_scale() == "log" and (decades := math.log10(high / low)) > 0.9:
            locator = LogLocator(subs=(1, 2, 5) if decades < 3 else (1,))
        axis.set_major_locator(locator)
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(lambda value, _: f"{value:,g}")
    figure = axes.get_figure(root=True)
    assert figure is not None
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "elf"}):
        figure.savefig(buffer, format="svg")

    _, _, content = buffer.getvalue().partition("<svg")
    for name, tooltip in tooltips.items():
        group = f'<g class="mark"><title>{escape(tooltip)}</title>'
        content = content.replace(f'<g id="{name}">', group)
    # Its own style sheet and metadata would be those of the whole page; nothing needs clipping.
    unwanted = r'<(metadata|style|clipPath)\b.*?</\1>| clip-path="[^"]*"|(?<=<g) id="[^"]*"|(?<=\d)pt(?=")'
    content = re.sub(unwanted, "", content, flags=re.DOTALL)
    for name, colour in COLOURS.items():
        content = content.replace(colour, f"var(--{name})")
    return Markup(f'<svg role="img" aria-label="{escape(description)}"{content}')
