"""ROUGE, by rouge_score."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from elf_lightning.metrics.number import MetricNumber
from elf_lightning.metrics.optional import import_optional
from elf_lightning.metrics.text_metric import SampleMean

_number = partial(MetricNumber, digits=1, percent=True, higher_is_better=True)


class Rouge(SampleMean):
    """ROUGE-1, -2 and -L of 0 to 1: rouge_score's F1 with its stemmer, mean over samples.

    Args:
        **kwargs: as for `torchmetrics.Metric`.

    Raises:
        UserError: if rouge_score is not installed.
    """

    numbers = (
        _number("rouge1", "ROUGE-1", "Words shared with the reference, F1 in percent.", headline=True),
        _number("rouge2", "ROUGE-2", "Word pairs shared with the reference, F1 in percent."),
        _number("rougeL", "ROUGE-L", "Longest common subsequence with it, F1 in percent.", headline=True),
    )
    paired = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.variants = [number.name for number in self.numbers]
        rouge_scorer = import_optional("rouge_score.rouge_scorer", "rouge_score")
        self.scorer = rouge_scorer.RougeScorer(self.variants, use_stemmer=True)

    def measure(self, texts: Sequence[str], *references: Sequence[str]) -> list[list[float]]:
        """The three F1 of each pair."""
        pairs = map(self.scorer.score, references[0], texts)
        return [[scores[variant].fmeasure for variant in self.variants] for scores in pairs]
