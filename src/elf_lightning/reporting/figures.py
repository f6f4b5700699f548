"""Plots by matplotlib that take the page's fonts and colours, in light and dark mode."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes

VARIABLES = ("quiet", "line", "model", "real", "shuffled", "published", "train")
COLOURS = {name: f"#0000{number:02x}" for number, name in enumerate(VARIABLES, start=1)}
"""Stand-ins for the page's CSS variables, which matplotlib does not know."""
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 16, 40
"""Margins around the axes, in pixels."""
DISTANCES = (12, 24, 40, 60, 84)
DIRECTIONS = ((1, 0), (-1, 0), (0, 1.3), (0, -1.3), (1, 1), (1, -1), (-1, 1), (-1, -1))
"""How far from its point a label may be, in pixels, and where: right, left, above, below, between."""


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


def new_axes(width: int, height: int, x_title: str, y_title: str = "", log: bool = False) -> Axes:
    """Axes of a plot of this size in pixels; `log` is for x."""
    from matplotlib.figure import Figure

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
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

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
    """The plot as an SVG element.

    Args:
        axes: from `new_axes`.
        description: what it shows, for screen readers.
        tooltips: text of the artist with the `gid` of this name.
    """
    import matplotlib

    _set_ticks(axes)
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


def _set_ticks(axes: Axes) -> None:
    """Few round numbers, also on a logarithmic axis."""
    from matplotlib.ticker import Locator, LogLocator, MaxNLocator, NullLocator

    for axis, length, (low, high) in (
        (axes.xaxis, axes.bbox.width / 64, axes.get_xlim()),
        (axes.yaxis, axes.bbox.height / 40, axes.get_ylim()),
    ):
        locator: Locator = MaxNLocator(max(2, int(length)), steps=[1, 2, 5, 10])
        if axis.get_scale() == "log" and (decades := math.log10(high / low)) > 0.9:
            locator = LogLocator(subs=(1, 2, 5) if decades < 3 else (1,))
        axis.set_major_locator(locator)
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(lambda value, _: f"{value:,g}")
