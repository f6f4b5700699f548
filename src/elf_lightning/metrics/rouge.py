"""ROUGE, by rouge_score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from elf_lightning.metrics.bleu import refuse_unpaired
from elf_lightning.metrics.optional import import_optional
from elf_lightning.metrics.text_metric import TextMetric

VARIANTS = ("rouge1", "rouge2", "rougeL")


class Rouge(TextMetric):
    """ROUGE-1, -2 and -L of 0 to 1: rouge_score's F1 with its stemmer, mean over samples.

    Args:
        **kwargs: as for `torchmetrics.Metric`.

    Raises:
        UserError: if rouge_score is not installed.
    """

    higher_is_better = True

    f1: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        rouge_scorer = import_optional("rouge_score.rouge_scorer", "rouge_score")
        self.scorer = rouge_scorer.RougeScorer(list(VARIANTS), use_stemmer=True)
        self.add_sum("f1", torch.float64, (len(VARIANTS),))

    def update(self, texts: Sequence[str], references: Sequence[str]) -> None:
        """Add N hypotheses, each with its reference.

        Raises:
            UserError: if the numbers of texts and references differ.
        """
        refuse_unpaired(texts, references)
        self.count_samples(texts)
        for text, reference in zip(texts, references, strict=True):
            scores = self.scorer.score(reference, text)
            f1 = [scores[variant].fmeasure for variant in VARIANTS]
            self.f1 += torch.tensor(f1, dtype=torch.float64, device=self.device)

    def compute(self) -> dict[str, Tensor]:
        """The means `rouge1`, `rouge2` and `rougeL`, float64 scalars.

        Raises:
            UserError: if there are no hypotheses, or all are empty.
        """
        self.refuse_nothing()
        return dict(zip(VARIANTS, self.f1 / self.samples, strict=True))
