"""The frontier: Gen. PPL against entropy, since neither means anything alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from markupsafe import Markup

from elf_lightning.reporting.figures import COLOURS, Mark, draw_marks, new_axes, svg
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
STYLES: dict[str, dict[str, Any]] = {
    "real": {"colour": "real", "marker": "D", "opacity": 1},
    "shuffled": {"colour": "shuffled", "marker": "^", "size": 12},
    "published": {"colour": "published", "marker": "s", "opacity": 0},
}
"""Shapes differ as well as colours; the model has circles."""


def frontier_plots(rows: Sequence[Scores], scoring_model: str, width: int) -> Iterator[tuple[str, Markup]]:
    """Yield a scoring model and its plot: sampling configurations, real and shuffled text, published points.

    The published points have axes of their own unless the scoring model is theirs. With several sampling
    configurations, the Pareto-optimal ones are numbered in the order of `pareto_optimal`.

    Args:
        rows: with `gen_ppl` and `entropy`.
        scoring_model: of the rows.
        width: of all plots together if that is enough for two, else of each; in pixels.
    """
    published = [
        _mark(
            f"{name}, published, scoring model {PUBLISHED_SCORING_MODEL}", point, name, **STYLES["published"]
        )
        for name, point in PUBLISHED.items()
    ]
    sampled = [row for row in rows if row.kind == "sampled"]
    optimal = pareto_optimal(sampled)
    # The numbered ones last, so that they are not hidden under others.
    ordered = sorted(rows, key=lambda row: (row.kind == "sampled", row in optimal))
    marks = [_row_mark(row, optimal, len(sampled) > 1) for row in ordered]
    front = sorted(_point(row) for row in optimal)
    if scoring_model.endswith(PUBLISHED_SCORING_MODEL):
        yield scoring_model, _plot([*marks, *published], front, scoring_model, width, HEIGHT)
        return
    beside = width > 600
    first, second = (round(width * 0.66), round(width * 0.34)) if beside else (width, width)
    yield scoring_model, _plot(marks, front, scoring_model, first, HEIGHT)
    theirs = f"{PUBLISHED_SCORING_MODEL} (published)"
    yield theirs, _plot(published, [], theirs, second, HEIGHT if beside else 200)


def _row_mark(row: Scores, optimal: Sequence[Scores], several: bool) -> Mark:
    if row.kind != "sampled":
        return _mark(row.name, _point(row), LABELS.get(row.kind, row.name), **STYLES.get(row.kind, {}))
    if row not in optimal:
        return _mark(row.name, _point(row), "")
    label = str(optimal.index(row) + 1) if several else "this model"
    return _mark(row.name, _point(row), label, opacity=1)


def _mark(name: str, point: tuple[float, float], label: str, **style: Any) -> Mark:
    return Mark(point, f"{name}: Gen. PPL {point[0]:.1f}, entropy {point[1]:.2f}", label, **style)


def _point(row: Scores) -> tuple[float, float]:
    return row.metrics["gen_ppl"].mean, row.metrics["entropy"].mean


def _plot(
    marks: Sequence[Mark], front: Sequence[tuple[float, float]], scoring_model: str, width: int, height: int
) -> Markup:
    axes = new_axes(width, height, "Gen. PPL", "entropy, nats", log=True)
    axes.margins(0.15)
    if len(front) > 1:
        axes.step(*zip(*front, strict=True), where="post", color=COLOURS["model"], dashes=(4, 4), linewidth=1)
    tooltips = draw_marks(axes, marks)
    return svg(axes, f"Scoring model {scoring_model}. {'; '.join(tooltips.values())}", tooltips)
