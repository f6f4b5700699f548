"""The page that shows in a minute whether a model is good, and that of students beside their teacher."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from elf_lightning.metrics import MetricNumber
from elf_lightning.reporting import plots
from elf_lightning.reporting.page import render
from elf_lightning.reporting.scores import Scores, closest_to_real, measured_numbers, pareto_optimal, verdict

WIDTHS = {"wide": 980, "narrow": 330}
"""Of the plots for desktops and phones, by CSS class, in pixels: scaled down they could not be read."""
BySteps = Mapping[int, Scores]  # number of steps -> scores
SHOWN = ("gen_ppl", "entropy", "repetition", "bleu", "rougeL")
PLOTTED = ("gen_ppl", "entropy", "bleu", "rougeL")
"""Numbers of the table and of the plots, where they are measured; Gen. PPL never without entropy."""


@dataclass(frozen=True)
class Specimen:
    """A generated text, and perhaps a real one; in text-to-text tasks, its reference and their condition."""

    generated: str
    real: str | None = None
    source: str | None = None


@dataclass(frozen=True)
class Report:
    """The content of the page."""

    title: str  # of the page
    details: Mapping[str, str]  # what the numbers follow from, by name
    scoring_model: str | None  # name of the scoring model, if any
    rows: Sequence[Scores]  # the numbers, real text first
    notes: Mapping[str, str] = field(default_factory=dict)  # such as the signatures of BLEU, by name
    curves: Mapping[str, plots.Curve] = field(default_factory=dict)  # columns of the training log
    specimens: Sequence[Specimen] = ()  # texts to read
    trajectory: str = ""  # a page of its own (`trajectory_page`); empty for none


def report_page(report: Report) -> str:
    """One self-contained HTML page, for phones and desktops, in light and dark mode."""
    rows, model = report.rows, report.scoring_model
    best, numbers = closest_to_real(rows), measured_numbers(rows)
    sampled = [row for row in rows if row.kind == "sampled"]
    marked = pareto_optimal(sampled) if len(sampled) > 1 and model is not None else []
    drawn = {css: [*plots.frontier_plots(rows, model, px)] for css, px in WIDTHS.items() if model is not None}
    chosen_by = "has the best BLEU" if "bleu" in best.metrics else "has the highest entropy"
    if any(row.kind == "real" for row in rows):
        chosen_by = "comes closest to real text"
    return render(
        "report.html",
        report=report,
        verdict=verdict(rows),
        best=best,
        chosen_by=chosen_by,
        cards=[_card(number, best, rows) for number in numbers if number.headline],
        numbers=numbers,
        marked=marked,
        chosen=[row for row in rows if row.kind != "sampled" or row in marked],
        plots=drawn,
        published=plots.PUBLISHED_SCORING_MODEL,
        panels=list(plots.curve_panels(report.curves, WIDTHS["narrow"])),
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


def few_steps_page(
    title: str, details: Mapping[str, str], models: Mapping[str, BySteps], real: Scores | None = None
) -> str:
    """One self-contained HTML page with a table, and a plot of each number by steps.

    `models` has the scores of each model by its name: the teacher, earlier students, and the student.
    `details` are what the numbers follow from, by name.
    """
    rows = [row for by_steps in models.values() for row in by_steps.values()]
    numbers = [number for number in measured_numbers(rows) if number.name in SHOWN]
    return render(
        "few_steps.html",
        report={"title": title, "details": details},
        models=models,
        steps=sorted({steps for by_steps in models.values() for steps in by_steps}),
        numbers=numbers,
        real=real,
        plots=[(n.title, _plot(n, models, real)) for n in numbers if n.name in PLOTTED],
    )


def _plot(number: MetricNumber, models: Mapping[str, BySteps], real: Scores | None) -> Markup:
    axes, tooltips = plots.new_axes(480, 280, "sampling steps", log=True), dict[str, str]()
    axes.set_yscale("log" if number.log else "linear")
    axes.margins(0.05, 0.1)
    for order, (name, by_steps) in enumerate(models.items()):
        means = {steps: row[number.name].mean for steps, row in sorted(by_steps.items())}
        line = {steps: mean for steps, mean in means.items() if math.isfinite(mean)}
        colour, student = plots.COLOURS["model" if order else "train"], order == len(models) - 1
        opacity = 1 if student or not order else 0.3
        gid = f"line{order}"
        axes.plot([*line], [*line.values()], "o-", color=colour, alpha=opacity, linewidth=1.8, gid=gid)
        tooltips[gid] = f"{name}: " + ", ".join(f"{v:.4g} at {n}" for n, v in line.items())
    if real is not None:
        value = real[number.name].mean
        axes.axhline(value, color=plots.COLOURS["real"], dashes=(4, 4), linewidth=1, gid="real")
        tooltips["real"] = f"real text: {value:.4g}"
    return plots.svg(axes, f"{number.title} by sampling steps. {'; '.join(tooltips.values())}", tooltips)
