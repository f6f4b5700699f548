"""Scores by the number of sampling steps, of students beside their teacher."""

import math
from collections.abc import Mapping

from markupsafe import Markup

from elf_lightning.metrics import MetricNumber
from elf_lightning.reporting.page import render
from elf_lightning.reporting.plots import COLOURS, new_axes, svg
from elf_lightning.reporting.scores import Scores, measured_numbers

BySteps = Mapping[int, Scores]
"""Number of steps -> scores."""
WIDTH, HEIGHT = 480, 280
SHOWN = ("gen_ppl", "entropy", "repetition", "bleu", "rougeL")
PLOTTED = ("gen_ppl", "entropy", "bleu", "rougeL")
"""Numbers of the table and of the plots, where they are measured; Gen. PPL never without entropy."""


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
    axes, tooltips = new_axes(WIDTH, HEIGHT, "sampling steps", log=True), dict[str, str]()
    axes.set_yscale("log" if number.log else "linear")
    axes.margins(0.05, 0.1)
    for order, (name, by_steps) in enumerate(models.items()):
        means = {steps: row[number.name].mean for steps, row in sorted(by_steps.items())}
        line = {steps: mean for steps, mean in means.items() if math.isfinite(mean)}
        colour, student = COLOURS["model" if order else "train"], order == len(models) - 1
        opacity = 1 if student or not order else 0.3
        gid = f"line{order}"
        axes.plot([*line], [*line.values()], "o-", color=colour, alpha=opacity, linewidth=1.8, gid=gid)
        tooltips[gid] = f"{name}: " + ", ".join(f"{v:.4g} at {n}" for n, v in line.items())
    if real is not None:
        value = real[number.name].mean
        axes.axhline(value, color=COLOURS["real"], dashes=(4, 4), linewidth=1, gid="real")
        tooltips["real"] = f"real text: {value:.4g}"
    return svg(axes, f"{number.title} by sampling steps. {'; '.join(tooltips.values())}", tooltips)
