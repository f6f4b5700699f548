"""The page that shows in a minute whether a model is good."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from elf_lightning.reporting.curves import Curve, curve_panels
from elf_lightning.reporting.frontier import PUBLISHED_SCORING_MODEL, frontier_plots
from elf_lightning.reporting.page import render
from elf_lightning.reporting.scores import Scores, measured_numbers, pareto_optimal
from elf_lightning.reporting.verdict import closest_to_real, verdict

if TYPE_CHECKING:
    from elf_lightning.metrics import MetricNumber

WIDE, NARROW = 980, 330
"""Widths of the plots for desktops and phones, in pixels: scaled down they could not be read."""
MAX_ROWS = 8
"""Of the table; more are folded."""
KINDS = {"real": "real text", "shuffled": "words shuffled", "copied": "source copied", "sampled": "model"}


@dataclass(frozen=True)
class Specimen:
    """A generated text beside a real one.

    Attributes:
        generated: by the model.
        real: from the validation data; in text-to-text tasks the reference.
        source: the condition of both, in text-to-text tasks.
    """

    generated: str
    real: str
    source: str | None = None

    @property
    def texts(self) -> dict[str, str]:
        """The texts in the order of the page."""
        texts = {"source": self.source, "model": self.generated, "real": self.real}
        return {origin: text for origin, text in texts.items() if text is not None}


@dataclass(frozen=True)
class Report:
    """The content of the page.

    Attributes:
        title: of the page.
        details: what the numbers follow from, by name.
        scoring_model: name of the scoring model, if any.
        rows: the numbers, real text first.
        notes: such as the signatures of BLEU, by name.
        curves: columns of the training log.
        specimens: texts to read.
        trajectory: a page of its own (`trajectory_page`); empty for none.
    """

    title: str
    details: Mapping[str, str]
    scoring_model: str | None
    rows: Sequence[Scores]
    notes: Mapping[str, str] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    specimens: Sequence[Specimen] = ()
    trajectory: str = ""


def report_page(report: Report) -> str:
    """One self-contained HTML page, for phones and desktops, in light and dark mode."""
    best = closest_to_real(report.rows)
    numbers = measured_numbers(report.rows)
    sampled = [row for row in report.rows if row.kind == "sampled"]
    marked = pareto_optimal(sampled) if len(sampled) > 1 and report.scoring_model is not None else []
    return render(
        "report.html",
        report=report,
        verdict=verdict(report.rows),
        best=best,
        cards=[_card(number, best, report.rows) for number in numbers if number.headline],
        numbers=numbers,
        marked=marked,
        chosen=[row for row in report.rows if row.kind != "sampled" or row in marked],
        folded=len(report.rows) > MAX_ROWS,
        plots=_frontier(report),
        published=PUBLISHED_SCORING_MODEL,
        panels=list(curve_panels(report.curves, NARROW)),
        kinds=KINDS,
    )


def _frontier(report: Report) -> dict[str, list[tuple[str, Markup]]]:
    """Plots for desktops and phones, by CSS class."""
    if report.scoring_model is None:
        return {}
    widths = {"wide": WIDE, "narrow": NARROW}
    return {
        css: list(frontier_plots(report.rows, report.scoring_model, width)) for css, width in widths.items()
    }


def _card(number: MetricNumber, best: Scores, rows: Sequence[Scores]) -> dict[str, Any]:
    """One number of the best row, with its place among those that it must be compared with."""
    compared = [row for row in rows if row.kind in ("real", "shuffled", "copied")] + [best]
    estimates = [row[number.name] for row in compared]
    places = [_log(e.mean) if number.log else e.mean for e in estimates]
    # A percentage from zero to at least 5: smaller differences do not matter.
    shown = [*filter(math.isfinite, places), *([0.0, 0.05] if number.percent else [])] or [0.0]
    room = max(0.08 * (max(shown) - min(shown)), 0.05 if number.log else 0.02 * abs(max(shown)), 1e-9)
    low, high = min(shown) - room, max(shown) + room
    lefts = [100 * (place - low) / (high - low) if math.isfinite(place) else None for place in places]
    return {
        "number": number,
        "value": estimates[-1],
        "compared": list(zip(compared, estimates, lefts, strict=True)),
    }


def _log(value: float) -> float:
    return math.log(value) if value > 0 else math.nan
