"""The page that shows in a minute whether a model is good."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from elf_lightning.metrics import MetricNumber
from elf_lightning.reporting.page import render
from elf_lightning.reporting.plots import PUBLISHED_SCORING_MODEL, Curve, curve_panels, frontier_plots
from elf_lightning.reporting.scores import Scores, closest_to_real, measured_numbers, pareto_optimal, verdict

WIDTHS = {"wide": 980, "narrow": 330}
"""Of the plots for desktops and phones, by CSS class, in pixels: scaled down they could not be read."""


@dataclass(frozen=True)
class Specimen:
    """A generated text beside a real one; in text-to-text tasks its reference, with the condition of both."""

    generated: str
    real: str
    source: str | None = None


@dataclass(frozen=True)
class Report:
    """The content of the page."""

    title: str  # of the page
    details: Mapping[str, str]  # what the numbers follow from, by name
    scoring_model: str | None  # name of the scoring model, if any
    rows: Sequence[Scores]  # the numbers, real text first
    notes: Mapping[str, str] = field(default_factory=dict)  # such as the signatures of BLEU, by name
    curves: Mapping[str, Curve] = field(default_factory=dict)  # columns of the training log
    specimens: Sequence[Specimen] = ()  # texts to read
    trajectory: str = ""  # a page of its own (`trajectory_page`); empty for none


def report_page(report: Report) -> str:
    """One self-contained HTML page, for phones and desktops, in light and dark mode."""
    rows, model = report.rows, report.scoring_model
    best, numbers = closest_to_real(rows), measured_numbers(rows)
    sampled = [row for row in rows if row.kind == "sampled"]
    marked = pareto_optimal(sampled) if len(sampled) > 1 and model is not None else []
    plots = {} if model is None else {css: [*frontier_plots(rows, model, px)] for css, px in WIDTHS.items()}
    return render(
        "report.html",
        report=report,
        verdict=verdict(rows),
        best=best,
        cards=[_card(number, best, rows) for number in numbers if number.headline],
        numbers=numbers,
        marked=marked,
        chosen=[row for row in rows if row.kind != "sampled" or row in marked],
        plots=plots,
        published=PUBLISHED_SCORING_MODEL,
        panels=list(curve_panels(report.curves, WIDTHS["narrow"])),
    )


def _card(number: MetricNumber, best: Scores, rows: Sequence[Scores]) -> dict[str, Any]:
    """One number of the best row, with its place among those that it must be compared with."""
    compared = [row for row in rows if row.kind != "sampled" and number.name in row.metrics] + [best]
    places = [row.mean(number.name) for row in compared]
    if number.log:
        places = [math.log(place) if place > 0 else math.nan for place in places]
    # A percentage from zero to at least 5: smaller differences do not matter.
    shown = [*filter(math.isfinite, places), *([0.0, 0.05] if number.percent else [])] or [0.0]
    room = max(0.08 * (max(shown) - min(shown)), 0.05 if number.log else 0.02 * abs(max(shown)), 1e-9)
    low, high = min(shown) - room, max(shown) + room
    lefts = [100 * (place - low) / (high - low) if math.isfinite(place) else None for place in places]
    return {"number": number, "value": best[number.name], "compared": list(zip(compared, lefts, strict=True))}
