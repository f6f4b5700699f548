"""Measured numbers with their confidence intervals, and which of them are best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from elf_lightning.metrics import MetricNumber

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
        """The estimate from one or more values, each from a set of its own; NaN values are left out."""
        known = [value for value in values if not math.isnan(value)]
        if len(known) < 2:
            return cls(known[0] if known else math.nan)
        return cls(fmean(known), _quantile(len(known) - 1) * stdev(known) / math.sqrt(len(known)))

    def parts(self, number: MetricNumber) -> list[str]:
        """The number and, where it has one, the half-width of its interval, as texts."""
        known = (
            (self.mean,) if self.half_width is None or math.isnan(self.mean) else (self.mean, self.half_width)
        )
        return [number.show(value) for value in known]

    def show(self, number: MetricNumber) -> str:
        """The number with its interval, as text."""
        return " ± ".join(self.parts(number))


def _quantile(degrees: int) -> float:
    """Student's 97.5% quantile; beyond the table by its expansion around the normal one, within 0.002."""
    if degrees <= len(_STUDENT):
        return _STUDENT[degrees - 1]
    z = _NORMAL
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


@dataclass(frozen=True)
class Scores:
    """All numbers of one kind of text: a row of the table.

    Attributes:
        name: of the row.
        kind: where its texts come from.
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
        """The scores from the numbers of one or more sets of texts."""
        metrics = {metric: Estimate.of([values[metric] for values in sets]) for metric in sets[0]}
        return cls(name, kind, num_samples, len(sets), metrics)

    def __getitem__(self, metric: str) -> Estimate:
        """The number of this name; NaN if it was not measured."""
        return self.metrics.get(metric, Estimate(math.nan))

    def record(self) -> dict[str, Any]:
        """Plain values for a JSON file, with null for NaN."""
        record = asdict(self)
        for estimate in record["metrics"].values():
            estimate |= {name: None for name, value in estimate.items() if value != value}
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The scores that wrote `record`, which may hold more."""
        metrics = {
            name: Estimate(math.nan if value["mean"] is None else value["mean"], value["half_width"])
            for name, value in record["metrics"].items()
        }
        return cls(record["name"], record["kind"], record["num_samples"], record["num_sets"], metrics)


def measured_numbers(rows: Sequence[Scores]) -> list[MetricNumber]:
    """All numbers of the rows, in their order; those that no metric declares are shown under their names."""
    from elf_lightning.metrics import MetricNumber, metric_numbers

    known = metric_numbers()
    names = dict.fromkeys(name for row in rows for name in row.metrics)
    return [known.get(name, MetricNumber(name, name)) for name in names]


def pareto_optimal(rows: Sequence[Scores]) -> list[Scores]:
    """The rows that no other row beats in both Gen. PPL (lower) and entropy (higher)."""

    def point(row: Scores) -> tuple[float, float]:
        return row.metrics["gen_ppl"].mean, -row.metrics["entropy"].mean

    def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
        return one != other and one[0] <= other[0] and one[1] <= other[1]

    points = [point(row) for row in rows]
    return [row for row, own in zip(rows, points, strict=True) if not any(beats(one, own) for one in points)]
