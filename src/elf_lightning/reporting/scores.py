"""Measured numbers with what belongs to them: how sure they are, what they mean, which are best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any, Literal, Self

Kind = Literal["sampled", "real", "shuffled", "copied", "other"]
"""Texts of the model; real ones; real ones without order; the source itself; those of another model."""

# Two-sided 95% quantiles of Student's distribution for 1 to 10 degrees of freedom.
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
_NORMAL = 1.95996


@dataclass(frozen=True)
class Estimate:
    """A number measured on several sets of texts.

    Attributes:
        mean: over the sets.
        half_width: of the 95% confidence interval around it (Student's); None for a single set.
    """

    mean: float
    half_width: float | None = None

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """The mean of one or more values, each from a set of its own; those that are NaN take no part."""
        known = [value for value in values if not math.isnan(value)]
        if len(known) < 2:
            return cls(known[0] if known else math.nan)
        return cls(fmean(known), _quantile(len(known) - 1) * stdev(known) / math.sqrt(len(known)))


def _quantile(degrees: int) -> float:
    """Student's 97.5% quantile; beyond the table by its expansion around the normal one, right to 0.002."""
    if degrees <= len(_STUDENT):
        return _STUDENT[degrees - 1]
    z = _NORMAL
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


@dataclass(frozen=True)
class Scores:
    """All numbers of one kind of text: a row of the table.

    Attributes:
        name: what the row is called.
        kind: whose texts they are.
        num_samples: texts in each set.
        num_sets: sets of texts, such as one for each seed.
        metrics: the numbers by name.
    """

    name: str
    kind: Kind
    num_samples: int
    num_sets: int
    metrics: Mapping[str, Estimate]

    @classmethod
    def of(cls, name: str, kind: Kind, num_samples: int, sets: Sequence[Mapping[str, float]]) -> Self:
        """The numbers of one or more sets of texts, put together."""
        metrics = {metric: Estimate.of([values[metric] for values in sets]) for metric in sets[0]}
        return cls(name, kind, num_samples, len(sets), metrics)

    def record(self) -> dict[str, Any]:
        """Plain values for a JSON file; a number that does not exist is null."""
        metrics = {
            name: {"mean": _or_none(value.mean), "half_width": _or_none(value.half_width)}
            for name, value in self.metrics.items()
        }
        return {
            "name": self.name,
            "kind": self.kind,
            "num_samples": self.num_samples,
            "num_sets": self.num_sets,
            "metrics": metrics,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The row that wrote `record`, which may hold more."""
        metrics = {
            name: Estimate(math.nan if value["mean"] is None else value["mean"], value["half_width"])
            for name, value in record["metrics"].items()
        }
        return cls(record["name"], record["kind"], record["num_samples"], record["num_sets"], metrics)


def _or_none(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


@dataclass(frozen=True)
class Column:
    """How a metric is shown.

    Attributes:
        title: its heading.
        meaning: one line that says what it measures and which way is good.
        digits: after the point.
        percent: show a share as a percentage.
        scored: whether it depends on the scoring_model.
    """

    title: str
    meaning: str
    digits: int = 2
    percent: bool = False
    scored: bool = field(default=False)

    def show(self, estimate: Estimate) -> str:
        """The number with its interval, as text."""
        return " ± ".join(self.parts(estimate))

    def parts(self, estimate: Estimate) -> list[str]:
        """The number and, where it has one, the half-width of its interval, as texts."""
        if math.isnan(estimate.mean):
            return ["none"]
        scale = 100 if self.percent else 1
        known = (_or_none(value) for value in (estimate.mean, estimate.half_width))
        return [f"{scale * value:.{self.digits}f}" for value in known if value is not None]


COLUMNS = {
    "gen_ppl": Column(
        "Gen. PPL",
        "How unlikely the scoring model finds the text. Low is good, down to real text; repetition is likely too.",
        digits=1,
        scored=True,
    ),
    "entropy": Column(
        "Entropy",
        "How varied a text's tokens are, in nats. Close to real text is good; lower means repetition.",
        scored=True,
    ),
    "repetition": Column(
        "Repetition %", "Share of a text's 4-grams that it had said before. Low is good.", percent=True
    ),
    "overlap": Column(
        "Overlap %",
        "Share of 4-grams that another of the texts has too. Low is good; one text copied has 100.",
        percent=True,
    ),
    "distinct": Column(
        "Distinct %",
        "Different 2-grams among all 2-grams of all texts. Close to real text is good.",
        percent=True,
    ),
    "bleu": Column("BLEU", "N-grams shared with the reference, lower-cased. High is good.", digits=1),
    "bleu_default": Column("BLEU, cased", "The same with sacrebleu's default settings.", digits=1),
    "rouge1": Column("ROUGE-1", "Words shared with the reference, F1 in percent.", digits=1, percent=True),
    "rouge2": Column("ROUGE-2", "Word pairs shared with it, F1 in percent.", digits=1, percent=True),
    "rougeL": Column("ROUGE-L", "Longest common subsequence with it, F1 in percent.", digits=1, percent=True),
}
"""How to show each metric, in the order of the table."""


def pareto_optimal(rows: Sequence[Scores]) -> list[Scores]:
    """The rows that no other row beats in both Gen. PPL (lower) and entropy (higher)."""

    def point(row: Scores) -> tuple[float, float]:
        return row.metrics["gen_ppl"].mean, -row.metrics["entropy"].mean

    def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
        return one != other and one[0] <= other[0] and one[1] <= other[1]

    points = [point(row) for row in rows]
    return [row for row, own in zip(rows, points, strict=True) if not any(beats(one, own) for one in points)]
