"""The page on which a person sees in a minute whether a model is good."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from elf_lightning.reporting.axes import Axis
from elf_lightning.reporting.curves import Curve, curve_plots
from elf_lightning.reporting.frontier import PUBLISHED_SCORING_MODEL, frontier_plots
from elf_lightning.reporting.page import page
from elf_lightning.reporting.scores import COLUMNS, Scores, pareto_optimal
from elf_lightning.reporting.verdict import Finding, closest_to_real, verdict

HEADLINES = ("gen_ppl", "entropy", "repetition", "bleu", "rouge1", "rougeL")
WIDE, NARROW = 980, 330
"""Widths of the plots for desks and phones, in pixels: one that is scaled down cannot be read."""
MANY_ROWS = 8
"""More are not looked at one by one."""
OWNERS = {
    "real": "real text",
    "shuffled": "words shuffled",
    "copied": "source copied",
    "sampled": "model",
}


@dataclass(frozen=True)
class Specimen:
    """A generated text beside a real one.

    Attributes:
        generated: by the model.
        real: held out; in text-to-text tasks the reference.
        source: what both answer, in text-to-text tasks.
    """

    generated: str
    real: str
    source: str | None = None


@dataclass(frozen=True)
class Report:
    """All that is on the page.

    Attributes:
        title: of the page.
        details: what the numbers follow from, by name.
        scoring_model: who scored, if anybody did.
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
    """One HTML page that needs nothing but itself, on a phone as on a desk, in the light and in the dark."""
    best = closest_to_real(report.rows)
    return page(
        "report",
        report.title,
        report.details,
        verdict="".join(map(_finding, verdict(report.rows))),
        chosen="comes closest to real text" if report.scoring_model else "has the best BLEU",
        best=html.escape(best.name),
        cards="".join(_card(name, best, report) for name in HEADLINES if name in best.metrics),
        table=_tables(report),
        notes=_notes(report),
        frontier=_frontier(report),
        curves=_curves(report),
        specimens=_specimens(report.specimens),
        trajectory=_trajectory(report.trajectory),
    )


def _finding(finding: Finding) -> str:
    css = {True: "good", False: "bad", None: "open"}[finding.good]
    return f'<li class="{css}">{html.escape(finding.sentence)}</li>'


def _title(name: str, scoring_model: str | None) -> str:
    """A metric's name with the scoring model's, where there is one and it decides."""
    column = COLUMNS[name]
    if scoring_model is None:
        return html.escape(column.title)
    by = f"scoring model: {html.escape(scoring_model)}" if column.scored else "needs no scoring model"
    return f'{html.escape(column.title)} <small class="scoring_model">{by}</small>'


def _card(name: str, best: Scores, report: Report) -> str:
    """One number of the best row, with the place it has among those it must be compared with."""
    column = COLUMNS[name]
    compared = [row for row in report.rows if row.kind in ("real", "shuffled", "copied")] + [best]
    values = [row.metrics[name].mean for row in compared]
    # From nothing to at least a twentieth: what differs by less is not worth a look.
    axis = Axis.around("", [*values, 0.0, 0.05] if column.percent else values, log=name == "gen_ppl")
    dots, legend = [], []
    for row in compared:
        value = row.metrics[name]
        if value.mean == value.mean and (value.mean > 0 or not axis.log):
            dots.append(f'<i class="{row.kind}" style="left:{100 * axis.place(value.mean):.1f}%"></i>')
        legend.append(f'<li class="{row.kind}">{OWNERS[row.kind]} <b>{column.show(value)}</b></li>')
    return (
        f"<article><h3>{_title(name, report.scoring_model)}</h3>"
        f'<p class="number">{column.show(best.metrics[name])}</p>'
        f'<div class="gauge" aria-hidden="true">{"".join(dots)}</div><ul>{"".join(legend)}</ul>'
        f"<p class='note'>{html.escape(column.meaning)}</p></article>"
    )


def _tables(report: Report) -> str:
    """The table; of many ways of sampling the Pareto-optimal ones, with all to be unfolded."""
    marked = _marked(report)
    if len(report.rows) <= MANY_ROWS:
        return _table(report.rows, marked, report.scoring_model)
    chosen = [row for row in report.rows if row.kind != "sampled" or row in marked]
    return (
        f"{_table(chosen, marked, report.scoring_model)}<details><summary>All {len(report.rows)} rows</summary>"
        f"{_table(report.rows, marked, report.scoring_model)}</details>"
    )


def _table(rows: Sequence[Scores], marked: Sequence[Scores], scoring_model: str | None) -> str:
    shown = [name for name in COLUMNS if name in rows[0].metrics]
    heads = "".join(f'<th scope="col">{_title(name, scoring_model)}</th>' for name in shown)
    body = []
    for row in rows:
        number = marked.index(row) + 1 if row in marked else 0
        mark = f' <span class="pareto">Pareto {number}</span>' if number else ""
        cells = "".join(
            f'<td data-name="{html.escape(COLUMNS[name].title)}">{COLUMNS[name].show(row.metrics[name])}</td>'
            for name in shown
        )
        texts = f'<td data-name="Texts">{row.num_sets} &times; {row.num_samples}</td>'
        body.append(
            f'<tr class="{row.kind}"><th scope="row">{html.escape(row.name)}{mark}</th>{cells}{texts}</tr>'
        )
    return (
        f'<table><thead><tr><th scope="col">Texts of</th>{heads}<th scope="col">Texts</th></tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def _marked(report: Report) -> list[Scores]:
    """The Pareto-optimal ways, where there are several to choose from."""
    ours = [row for row in report.rows if row.kind == "sampled"]
    return pareto_optimal(ours) if len(ours) > 1 and report.scoring_model is not None else []


def _notes(report: Report) -> str:
    told = ["Each number is a mean over sets of texts, ± the half-width of its 95% confidence interval."]
    if report.scoring_model is not None:
        told.append(
            f"Gen. PPL and entropy are in the tokens of the scoring model {report.scoring_model}; numbers under different "
            "scoring models, or of texts of other lengths, are not comparable."
        )
    told += [f"{name}: {note}" for name, note in report.notes.items()]
    return "".join(f"<p class='note'>{html.escape(sentence)}</p>" for sentence in told)


def _frontier(report: Report) -> str:
    if report.scoring_model is None:
        return ""
    plots = "".join(
        f'<div class="{css}">{frontier_plots(report.rows, report.scoring_model, width)}</div>'
        for css, width in (("wide", WIDE), ("narrow", NARROW))
    )
    best = "".join(f"<li>{html.escape(row.name)}</li>" for row in _marked(report))
    optimal = f"<p>Pareto-optimal: no other way beats these in both.</p><ol>{best}</ol>" if best else ""
    return (
        f'<section id="frontier"><h2>Perplexity against variety</h2>{plots}{optimal}'
        "<p class='note'>Down and to the left is repetition, up and to the right is noise; real text shows "
        f"where to be. ScoringModel: {html.escape(report.scoring_model)}. The published points (arXiv 2605.10938) were "
        f"scored by {PUBLISHED_SCORING_MODEL} on OpenWebText of 1,024 tokens; numbers under another scoring model, or of "
        "other texts, are not comparable with them.</p></section>"
    )


def _curves(report: Report) -> str:
    plots = curve_plots(report.curves, NARROW)
    if not plots:
        return ""
    sampled = any(name.startswith("val/gen_ppl") for name in report.curves)
    note = "<p class='note'>Gen. PPL while training is of few texts.</p>" if sampled else ""
    return (
        '<section id="curves"><h2>Training</h2><p class="legend"><span class="train">while training</span> '
        f'<span class="validation">validation text</span></p><div class="plots">{plots}</div>{note}</section>'
    )


def _specimens(specimens: Sequence[Specimen]) -> str:
    if not specimens:
        return ""
    cells = []
    for specimen in specimens:
        texts = {"source": specimen.source, "model": specimen.generated, "real": specimen.real}
        given = {owner: text for owner, text in texts.items() if text is not None}
        cells += [
            f'<article class="{owner}"><h3>{owner}</h3><p>{html.escape(text) or "(empty)"}</p></article>'
            for owner, text in given.items()
        ]
    columns = len(cells) // len(specimens)
    return (
        '<section id="texts"><h2>Texts to read</h2>'
        f'<div class="texts" style="--columns:{columns}">{"".join(cells)}</div></section>'
    )


def _trajectory(content: str) -> str:
    if not content:
        return ""
    return (
        '<section id="trajectory"><h2>From noise to text</h2>'
        f'<iframe title="From noise to text" srcdoc="{html.escape(content)}"></iframe></section>'
    )
