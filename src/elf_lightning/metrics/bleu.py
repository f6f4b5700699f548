"""BLEU, by sacrebleu."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from elf_lightning.errors import UserError
from elf_lightning.metrics.optional import import_optional
from elf_lightning.metrics.text_metric import TextMetric


def refuse_unpaired(texts: Sequence[str], references: Sequence[str]) -> None:
    """Stop where texts and references cannot be pairs.

    Raises:
        UserError: if their numbers differ.
    """
    if len(texts) != len(references):
        raise UserError(f"{len(texts)} hypotheses for {len(references)} references; give as many")


class Bleu(TextMetric):
    """Corpus BLEU of 0 to 100, the very number of sacrebleu's `corpus_bleu`.

    ELF (arXiv 2605.10938) and its field report `lowercase=True, effective_order=True`; sacrebleu's own
    default, which other work reports, has both off. Print `signature` beside the number.

    Args:
        lowercase: compare without regard to case.
        effective_order: leave out n-gram orders that the hypotheses are too short for.
        tokenize: sacrebleu's tokenizer, such as `13a`, `intl` or `zh`.
        **kwargs: as for `torchmetrics.Metric`.

    Raises:
        UserError: if sacrebleu is not installed.
    """

    higher_is_better = True

    matches: Tensor
    totals: Tensor
    lengths: Tensor

    def __init__(
        self, lowercase: bool = False, effective_order: bool = False, tokenize: str = "13a", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        metrics = import_optional("sacrebleu.metrics", "sacrebleu")
        self.bleu = metrics.BLEU(
            lowercase=lowercase, effective_order=effective_order, tokenize=tokenize, force=True
        )
        self.add_sum("matches", torch.int64, (self.bleu.max_ngram_order,))
        self.add_sum("totals", torch.int64, (self.bleu.max_ngram_order,))
        self.add_sum("lengths", torch.int64, (2,))

    @property
    def signature(self) -> str:
        """sacrebleu's signature: settings and version, to be printed with the number."""
        self.bleu.corpus_score([""], [[""]])  # the signature knows the number of references from a call
        return str(self.bleu.get_signature())

    def update(self, texts: Sequence[str], references: Sequence[str]) -> None:
        """Add N hypotheses, each with its reference.

        Raises:
            UserError: if the numbers of texts and references differ.
        """
        refuse_unpaired(texts, references)
        self.count_samples(texts)
        if texts:
            score = self.bleu.corpus_score(texts, [references])
            self.matches += torch.tensor(score.counts, device=self.device)
            self.totals += torch.tensor(score.totals, device=self.device)
            self.lengths += torch.tensor([score.sys_len, score.ref_len], device=self.device)

    def compute(self) -> Tensor:
        """BLEU in percent, a float64 scalar.

        Raises:
            UserError: if there are no hypotheses, or all are empty.
        """
        self.refuse_nothing()
        text_length, reference_length = self.lengths.tolist()
        score = self.bleu.compute_bleu(
            self.matches.tolist(),
            self.totals.tolist(),
            text_length,
            reference_length,
            smooth_method=self.bleu.smooth_method,
            effective_order=self.bleu.effective_order,
        )
        return torch.tensor(score.score, dtype=torch.float64, device=self.device)
