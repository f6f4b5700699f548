"""BLEU, by sacrebleu."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from elf_lightning.metrics.number import MetricNumber
from elf_lightning.metrics.optional import import_optional
from elf_lightning.metrics.text_metric import CorpusMetric


class Bleu(CorpusMetric):
    """Corpus BLEU of 0 to 100, sacrebleu's `corpus_bleu`.

    Args:
        lowercase: ignore case.
        effective_order: leave out n-gram orders that the hypotheses are too short for.
        tokenize: sacrebleu's tokenizer, such as `13a`, `intl` or `zh`.
        **kwargs: as for `torchmetrics.Metric`.

    Raises:
        UserError: if sacrebleu is not installed.
    """

    numbers = (
        MetricNumber(
            "bleu_default",
            "BLEU, cased",
            "The same with sacrebleu's default settings.",
            digits=1,
            higher_is_better=True,
        ),
    )
    paired = True

    def __init__(
        self, lowercase: bool = False, effective_order: bool = False, tokenize: str = "13a", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        metrics = import_optional("sacrebleu.metrics", "sacrebleu")
        self.bleu = metrics.BLEU(
            lowercase=lowercase, effective_order=effective_order, tokenize=tokenize, force=True
        )

    @property
    def signature(self) -> str:
        """sacrebleu's signature."""
        self.bleu.corpus_score([""], [[""]])  # sets the number of references, which the signature needs
        return str(self.bleu.get_signature())

    def measure(self, texts: Sequence[str], *references: Sequence[str]) -> float:
        """BLEU in percent."""
        return float(self.bleu.corpus_score(texts, references).score)


class LowercaseBleu(Bleu):
    """BLEU with the settings of ELF (arXiv 2605.10938) and its field; arguments as for `Bleu`."""

    numbers = (
        MetricNumber(
            "bleu",
            "BLEU",
            "N-grams shared with the reference, lower-cased. High is good.",
            digits=1,
            higher_is_better=True,
            headline=True,
        ),
    )

    def __init__(self, lowercase: bool = True, effective_order: bool = True, **kwargs: Any) -> None:
        super().__init__(lowercase, effective_order, **kwargs)
