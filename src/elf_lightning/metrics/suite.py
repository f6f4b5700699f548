"""Metrics that are told together: no perplexity without what would give away repetition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch

from elf_lightning.metrics.bleu import Bleu
from elf_lightning.metrics.entropy import UnigramEntropy
from elf_lightning.metrics.ngrams import CrossSampleOverlap, DistinctN, Repetition
from elf_lightning.metrics.perplexity import GenerativePerplexity
from elf_lightning.metrics.rouge import Rouge
from elf_lightning.metrics.scoring_model import ScoringModel
from elf_lightning.metrics.text_metric import TextMetric


@dataclass(frozen=True)
class MetricSuite:
    """Several metrics of the same texts.

    Attributes:
        metrics: by name; one that gives several numbers names them itself.
        scoring_model: the scoring model's name, where one takes part; reports show it beside the numbers.
        notes: what else a reader must know to compare the numbers, by name.
    """

    metrics: Mapping[str, TextMetric]
    scoring_model: str | None
    notes: Mapping[str, str]

    @classmethod
    def unconditional(cls, scoring_model: ScoringModel, device: torch.device | str = "cpu") -> Self:
        """`gen_ppl`, `entropy`, `repetition`, `overlap` and `distinct` of texts that stand for themselves."""
        metrics: dict[str, TextMetric] = {
            "gen_ppl": GenerativePerplexity(scoring_model),
            "entropy": UnigramEntropy(scoring_model),
            "repetition": Repetition(),
            "overlap": CrossSampleOverlap(),
            "distinct": DistinctN(),
        }
        return cls(_on(metrics, device), scoring_model.name, {})

    @classmethod
    def text_to_text(cls, device: torch.device | str = "cpu") -> Self:
        """`bleu` as the field reports it, `bleu_default` as sacrebleu does, and ROUGE; each with a reference.

        Raises:
            UserError: if sacrebleu or rouge_score is not installed.
        """
        field, default = Bleu(lowercase=True, effective_order=True), Bleu()
        notes = {"BLEU": field.signature, "BLEU, cased": default.signature}
        metrics: dict[str, TextMetric] = {"bleu": field, "bleu_default": default, "rouge": Rouge()}
        return cls(_on(metrics, device), None, notes)

    def __call__(self, *columns: Sequence[str]) -> dict[str, float]:
        """All numbers of the texts of all ranks, of which each gives its share; all get the same numbers.

        Args:
            columns: the texts and, for text-to-text, their references.

        Raises:
            UserError: if there are no texts, all are empty, or they cannot be scored.
        """
        values: dict[str, float] = {}
        for name, metric in self.metrics.items():
            metric.reset()
            metric.update(*columns)
            value = metric.compute()
            named = value if isinstance(value, dict) else {name: value}
            values |= {key: number.item() for key, number in named.items()}
        return values


def _on(metrics: dict[str, TextMetric], device: torch.device | str) -> dict[str, TextMetric]:
    return {name: metric.to(device) for name, metric in metrics.items()}
