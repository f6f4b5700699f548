"""The frontier: Gen. PPL against entropy, since neither says anything alone."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from elf_lightning.reporting.axes import Axis, Frame, Labels
from elf_lightning.reporting.scores import Scores, pareto_optimal

PUBLISHED = {
    "ELF 105M": (24.1, 5.15),
    "ELF 342M": (21.7, 5.18),
    "ELF 652M": (23.3, 5.28),
}
"""Gen. PPL and entropy in arXiv 2605.10938: OpenWebText, 1,024 tokens, under `PUBLISHED_SCORING_MODEL`."""
PUBLISHED_SCORING_MODEL = "gpt2-large"

HEIGHT = 340
LABELS = {"real": "real text", "shuffled": "shuffled"}
SHAPES = {
    "real": "M0-7 7 0 0 7-7 0Z",
    "shuffled": "M0-6 6.5 5.5-6.5 5.5Z",
    "published": "M-5-5H5V5H-5Z",
}
"""Paths of the marks that are no circles, so that colour is not all that tells them apart."""
CIRCLE = "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0Z"

Point = tuple[float, float]
"""Gen. PPL and entropy."""


def frontier_plots(rows: Sequence[Scores], scoring_model: str, width: int) -> str:
    """Every way of sampling beside real and shuffled text, and the published points.

    Those have axes of their own if they were scored by somebody else. The Pareto-optimal ways are numbered
    in the order of `pareto_optimal` if there are several ways.

    Args:
        rows: with `gen_ppl` and `entropy`.
        scoring_model: who scored them.
        width: of all plots together if that is enough for two, else of each; in pixels.
    """
    published = [_published(name, point) for name, point in PUBLISHED.items()]
    ours = pareto_optimal([row for row in rows if row.kind == "sampled"])
    several = sum(row.kind == "sampled" for row in rows) > 1
    front = sorted(_point(row) for row in ours)
    # The numbered ones last: they must not be hidden under others.
    ordered = sorted(rows, key=lambda row: (row.kind == "sampled", row in ours))
    marks = [_mark(row, ours.index(row) + 1 if row in ours else None, several) for row in ordered]
    if scoring_model.endswith(PUBLISHED_SCORING_MODEL):
        return _plot([*marks, *published], front, scoring_model, width, HEIGHT)
    beside = width > 600
    first, second = (round(width * 0.66), round(width * 0.34)) if beside else (width, width)
    theirs = _plot(published, [], f"{PUBLISHED_SCORING_MODEL} (published)", second, HEIGHT if beside else 200)
    return _plot(marks, front, scoring_model, first, HEIGHT) + theirs


@dataclass(frozen=True)
class Mark:
    """A point with what is told about it.

    Attributes:
        name: in full.
        point: where it is.
        css: classes that give it its colour.
        label: beside it; empty for none.
    """

    name: str
    point: Point
    css: str
    label: str


def _mark(row: Scores, number: int | None, several: bool) -> Mark:
    if row.kind != "sampled":
        return Mark(row.name, _point(row), row.kind, LABELS.get(row.kind, row.name))
    if number is None:
        return Mark(row.name, _point(row), "sampled", "")
    return Mark(row.name, _point(row), "sampled optimal", str(number) if several else "this model")


def _published(name: str, point: Point) -> Mark:
    return Mark(f"{name}, published, scoring model {PUBLISHED_SCORING_MODEL}", point, "published", name)


def _point(row: Scores) -> Point:
    return row.metrics["gen_ppl"].mean, row.metrics["entropy"].mean


def _plot(marks: Sequence[Mark], front: Sequence[Point], scoring_model: str, width: int, height: int) -> str:
    x = Axis.around("Gen. PPL", [mark.point[0] for mark in marks], log=True, margin=0.15)
    y = Axis.around("entropy, nats", [mark.point[1] for mark in marks], margin=0.15)
    frame = Frame(width, height, x, y)
    labels = Labels(frame)
    for mark in marks:
        labels.keep_free(frame.across(mark.point[0]), frame.down(mark.point[1]), 6)
    content = _steps(frame, front) + "".join(_drawn(frame, labels, mark) for mark in marks)
    told = "; ".join(f"{mark.name}: {mark.point[0]:.1f} at {mark.point[1]:.2f}" for mark in marks)
    plot = frame.svg(content, f"Gen. PPL at entropy, scoring model {scoring_model}. {told}")
    return f"<figure><figcaption>scoring_model: {html.escape(scoring_model)}</figcaption>{plot}</figure>"


def _steps(frame: Frame, points: Sequence[Point]) -> str:
    """The line behind which everything is beaten."""
    if len(points) < 2:
        return ""
    places = [f"{frame.across(points[0][0])},{frame.down(points[0][1])}"]
    for (_, before), (x, y) in pairwise(points):
        places += [f"{frame.across(x)},{frame.down(before)}", f"{frame.across(x)},{frame.down(y)}"]
    return f'<polyline class="front" points="{" ".join(places)}"/>'


def _drawn(frame: Frame, labels: Labels, mark: Mark) -> str:
    x, y = frame.across(mark.point[0]), frame.down(mark.point[1])
    told = f"{mark.name}: Gen. PPL {mark.point[0]:.1f}, entropy {mark.point[1]:.2f}"
    text = labels.beside(x, y, mark.label, mark.css) if mark.label else ""
    return (
        f'<path class="mark {mark.css}" transform="translate({x} {y})" d="{SHAPES.get(mark.css, CIRCLE)}">'
        f"<title>{html.escape(told)}</title></path>{text}"
    )
