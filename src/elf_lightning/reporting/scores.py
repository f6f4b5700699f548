"""Measured numbers with their confidence intervals, their table in a terminal, and what they say."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import fmean, stdev
from typing import Any, Literal, Self

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from elf_lightning.metrics import MetricNumber, metric_numbers

Kind = Literal["sampled", "real", "shuffled", "copied", "published", "other"]
"""Texts of the model; real ones; real ones without order; the source itself; those of other models."""

# Two-sided 95% quantiles of Student's distribution for 1 to 10 degrees of freedom.
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
VARIETY = 0.15
"""Difference of entropy from real text, in nats, beyond which text is repetitive (below) or noise (above)."""
MORE_LIKELY = 1.25  # no good text has a Gen. PPL lower than real text's divided by this
MORE_REPETITION = 0.01
"""Fraction of repeated 4-grams, above that of real text, beyond which a model repeats itself."""


@dataclass(frozen=True)
class Estimate:
    """A number measured on several sets of texts."""

    mean: float  # over the sets
    half_width: float | None = None  # of Student's 95% confidence interval; None for one set

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """The estimate from the values of several sets, without those that are NaN."""
        known = [value for value in values if not math.isnan(value)]
        if len(known) < 2:
            return cls(known[0] if known else math.nan)
        z, degrees = 1.95996, len(known) - 1
        if degrees <= len(_STUDENT):
            quantile = _STUDENT[degrees - 1]
        else:  # by its expansion around the normal one, within 0.002
            quantile = z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
        return cls(fmean(known), quantile * stdev(known) / math.sqrt(len(known)))

    def show(self, number: MetricNumber, between: str = " ± ") -> str:
        """The number and, where it has one, the half-width of its interval, as text."""
        half_width = None if math.isnan(self.mean) else self.half_width
        return between.join(number.show(one) for one in (self.mean, half_width) if one is not None)


@dataclass(frozen=True)
class Scores:
    """All numbers of one kind of text: a row of the table, as `evaluate` returns it.

    Attributes:
        name: of the row.
        kind: where its texts come from.
        num_samples: texts in each set.
        num_sets: sets of texts, such as one for each seed.
        metrics: the numbers by name.
        num_empty: empty texts in all sets.
    """

    name: str
    kind: Kind
    num_samples: int
    num_sets: int
    metrics: Mapping[str, Estimate]
    num_empty: int = 0

    @classmethod
    def of(
        cls, name: str, kind: Kind, num_samples: int, sets: Sequence[Mapping[str, float]], num_empty: int = 0
    ) -> Self:
        """The scores from the numbers of one or more sets of texts."""
        metrics = {metric: Estimate.of([values[metric] for values in sets]) for metric in sets[0]}
        return cls(name, kind, num_samples, len(sets), metrics, num_empty)

    def __getitem__(self, metric: str) -> Estimate:
        """The number of this name; NaN if it was not measured."""
        return self.metrics.get(metric, Estimate(math.nan))

    def mean(self, metric: str) -> float:
        """The mean of this number; NaN if it was not measured."""
        return self[metric].mean

    @property
    def point(self) -> tuple[float, float]:
        """Gen. PPL and entropy, of which neither means anything alone."""
        return self.mean("gen_ppl"), self.mean("entropy")

    def record(self) -> dict[str, Any]:
        """Plain values for a JSON file, with null for NaN."""
        record = asdict(self)
        for estimate in record["metrics"].values():
            estimate |= {name: None for name, value in estimate.items() if value != value}
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The scores that wrote `record`, which may hold more."""
        given = {field.name: record[field.name] for field in fields(cls) if field.name in record}
        metrics = {
            name: Estimate(math.nan if value["mean"] is None else value["mean"], value["half_width"])
            for name, value in record["metrics"].items()
        }
        return cls(**given | {"metrics": metrics})


def measured_numbers(rows: Sequence[Scores]) -> list[MetricNumber]:
    """All numbers of the rows, in their order; those that no metric declares are shown under their names."""
    known = metric_numbers()
    names = dict.fromkeys(name for row in rows for name in row.metrics)
    return [known.get(name, MetricNumber(name, name)) for name in names]


def pareto_optimal(rows: Sequence[Scores]) -> list[Scores]:
    """The rows that no other row beats in both Gen. PPL (lower) and entropy (higher)."""

    def beats(one: Scores, other: Scores) -> bool:
        (ppl, entropy), (other_ppl, other_entropy) = one.point, other.point
        return one.point != other.point and ppl <= other_ppl and entropy >= other_entropy

    return [row for row in rows if not any(beats(one, row) for one in rows)]


def score_table(rows: Sequence[Scores], scoring_model: str | None, notes: Mapping[str, str]) -> Group:
    """All rows under a heading with the scoring model, if any, and notes below, such as BLEU's signature."""
    # Not the table's title: a narrow table would cut a long path.
    model = Text(f"scoring model: {scoring_model}", "table.title", no_wrap=True, overflow="ignore")
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("texts of", min_width=12)
    numbers = measured_numbers(rows)
    for title in [number.title for number in numbers] + ["texts"]:
        heading = title.replace(", " if ", " in title else " ", "\n")
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        # An interval under its number: side by side, five of them would not fit a terminal.
        cells = [row[number.name].show(number, "\n±") for number in numbers]
        style = "" if row.kind in ("sampled", "other") else "dim"
        empty = f"\n{row.num_empty} empty" if row.num_empty else ""
        table.add_row(row.name, *cells, f"{row.num_sets}x{row.num_samples}{empty}", style=style)
    above = [] if scoring_model is None else [model]
    return Group(*above, table, *(Text(f"{name}: {note}", "dim") for name, note in notes.items()))


@dataclass(frozen=True)
class Finding:
    """One conclusion from the numbers, and whether it speaks for the model; None if undecided."""

    sentence: str
    good: bool | None


def closest_to_real(rows: Sequence[Scores]) -> Scores:
    """The model's row nearest to real text; without that, the one with the best BLEU or the highest entropy.

    Gen. PPL counts by its logarithm, so that both it and entropy are in nats.
    """
    ours = [row for row in rows if row.kind == "sampled"]
    real = next((row for row in rows if row.kind == "real"), None)
    if real is None:
        name = "bleu" if "bleu" in ours[0].metrics else "entropy"
        return max(ours, key=lambda row: row.mean(name))

    def distance(row: Scores) -> float:
        nats = math.log(row.mean("gen_ppl") / real.mean("gen_ppl"))
        return abs(nats) + abs(row.mean("entropy") - real.mean("entropy"))

    return min(ours, key=distance)


def verdict(rows: Sequence[Scores]) -> list[Finding]:
    """Findings on the model's best row, compared with real and shuffled text, or with the copied source."""
    known = {row.kind: row for row in rows}
    ours = closest_to_real(rows)
    if copied := known.get("copied"):  # costs nothing and often shares much with the reference
        bleu, free = ours.mean("bleu"), copied.mean("bleu")
        rouge, free_rouge = 100 * ours.mean("rougeL"), 100 * copied.mean("rougeL")
        return [
            Finding(f"BLEU is {bleu:.1f}; copying the source would have {free:.1f}.", bleu > free),
            Finding(f"ROUGE-L is {rouge:.1f}, against {free_rouge:.1f}.", rouge > free_rouge),
        ]
    if "real" not in known:
        return [Finding("There is no real text to compare with; give some with --data.", None)]
    real, mixed = known["real"], known["shuffled"]
    times, mixed_times = (row.mean("gen_ppl") / real.mean("gen_ppl") for row in (ours, mixed))
    surprise = f"The scoring model finds these texts {times:.1f} times as surprising as real ones"
    if times * MORE_LIKELY < 1:
        likelihood = Finding(f"{surprise}: likelier than anything people write.", False)
    else:  # good if, on a logarithmic scale, closer to real text than to its shuffled words
        words = f"real words in random order, {mixed_times:.1f} times"
        likelihood = Finding(f"{surprise}; {words}.", times * times < mixed_times)

    nats, real_nats = ours.mean("entropy"), real.mean("entropy")
    text = f"real text ({nats:.2f} nats of entropy, real text {real_nats:.2f})"
    if abs(nats - real_nats) <= VARIETY:
        variety = Finding(f"They are as varied as {text}.", True)
    elif nats < real_nats:
        variety = Finding(f"They are less varied than {text}, which lowers the perplexity.", False)
    else:
        variety = Finding(f"They are more varied than {text}, as random words are.", False)

    repeated, in_real = ours.mean("repetition"), real.mean("repetition")
    often, details = (
        repeated > in_real + MORE_REPETITION,
        f"{repeated:.1%} of 4-grams, real text {in_real:.1%}",
    )
    repetition = Finding(f"They {'' if often else 'rarely '}repeat themselves ({details}).", not often)
    if math.isnan(repeated + in_real):
        repetition = Finding("They are too short to repeat themselves.", None)
    return [likelihood, variety, repetition]
