"""Metrics that are reported together: no perplexity without the numbers that reveal repetition."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Self

import torch

from elf_lightning.errors import UserError, first_line
from elf_lightning.metrics.bleu_rouge import Bleu, LowercaseBleu, Rouge
from elf_lightning.metrics.ngrams import CrossSampleOverlap, DistinctN, Repetition
from elf_lightning.metrics.perplexity import LIKELIHOOD_NUMBERS, GenerativePerplexity, UnigramEntropy
from elf_lightning.metrics.scoring_model import ScoringModel
from elf_lightning.metrics.text_metric import MetricNumber, TextMetric

Extra = Sequence[str | TextMetric]
"""More metrics: a class path, the name of a number such as `repetition`, or the metric itself."""


def metric_numbers() -> dict[str, MetricNumber]:
    """All numbers that a metric declares, and those of the likelihood, by name."""
    declared = [number for metric in TextMetric.registered.values() for number in metric.numbers]
    return {number.name: number for number in (*declared, *LIKELIHOOD_NUMBERS)}


def metric_class(name: str) -> type[TextMetric]:
    """The metric that gives the number `name`, such as `repetition`, or has the class path `name`."""
    if name in TextMetric.registered:
        return TextMetric.registered[name]
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"metrics: {name!r} cannot be imported ({first_line(error)}); give the class path of a "
            f"TextMetric, or one of {', '.join(TextMetric.registered)}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, TextMetric) and found.numbers):
        raise UserError(f"metrics: {name!r} must be a subclass of TextMetric that declares its `numbers`")
    return found


Device = torch.device | str


@dataclass(frozen=True)
class MetricSuite:
    """Several metrics of the same texts."""

    metrics: Sequence[TextMetric]  # in the order of the table
    scoring_model: str | None  # name of the scoring model, if any; reports show it beside the numbers
    notes: Mapping[str, str]  # what else a reader must know to compare the numbers, by title

    @classmethod
    def unconditional(cls, scoring_model: ScoringModel, device: Device = "cpu", extra: Extra = ()) -> Self:
        """`gen_ppl`, `entropy`, `repetition`, `overlap` and `distinct` of texts without references."""
        perplexity, entropy = GenerativePerplexity(scoring_model), UnigramEntropy(scoring_model)
        metrics = [perplexity, entropy, Repetition(), CrossSampleOverlap(), DistinctN()]
        return cls._of(metrics, extra, device, scoring_model)

    @classmethod
    def text_to_text(cls, device: Device = "cpu", extra: Extra = (), tokenize: str = "13a") -> Self:
        """`bleu` as the field reports it, `bleu_default` as sacrebleu does, and ROUGE, against references.

        `tokenize` is sacrebleu's tokenizer, such as `bleu_tokenizer` finds for references.
        """
        metrics = [LowercaseBleu(tokenize=tokenize), Bleu(tokenize=tokenize), Rouge()]
        return cls._of(metrics, extra, device, None)

    @classmethod
    def _of(cls, own: list[TextMetric], extra: Extra, device: Device, scorer: ScoringModel | None) -> Self:
        metrics = [*own, *(_suitable(metric, scorer) for metric in extra)]
        counts = Counter(number.name for metric in metrics for number in metric.numbers)
        name, count = counts.most_common(1)[0]
        if count > 1:
            raise UserError(f"metrics: {count} give the number {name!r}; name each metric once")
        notes = {metric.numbers[0].title: metric.signature for metric in metrics if metric.signature}
        return cls([metric.to(device) for metric in metrics], scorer.name if scorer else None, notes)

    def __call__(self, *columns: Sequence[str]) -> dict[str, float]:
        """All numbers of the texts of all ranks, each of which gives its part; all get the same numbers.

        `columns` are the texts and, for text-to-text, their references. No text at all is a `UserError`.
        """
        values: dict[str, float] = {}
        for metric in self.metrics:
            metric.reset()
            metric.update(*(columns if metric.paired else columns[:1]))
            value = metric.compute()
            named = value if isinstance(value, dict) else {metric.numbers[0].name: value}
            values |= {number.name: float(named[number.name]) for number in metric.numbers}
        return values


def _suitable(metric: str | TextMetric, scorer: ScoringModel | None) -> TextMetric:
    """An extra metric, which must suit the task: references and a scoring model exclude each other."""
    if isinstance(metric, str):
        found = metric_class(metric)
        scored = any(number.needs_scoring_model for number in found.numbers)
        if scored and scorer is None:
            raise UserError(f"metrics: {metric!r} needs a scoring model, which text-to-text tasks lack")
        metric = found(scorer) if scored else found()  # type: ignore[call-arg]
    if metric.paired and scorer is not None:
        what = f"metrics: {metric.numbers[0].name!r} compares texts with references"
        raise UserError(f"{what}, which only text-to-text tasks have")
    return metric
