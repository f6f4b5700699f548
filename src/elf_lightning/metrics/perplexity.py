"""How likely a scoring model finds the samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from elf_lightning.errors import UserError
from elf_lightning.metrics.scoring_model import ScoringModel
from elf_lightning.metrics.text_metric import TextMetric


class GenerativePerplexity(TextMetric):
    """`exp` of the scoring model's mean nll a token, pooled over all samples (as in arXiv 2605.10938).

    Never read it without `UnigramEntropy` and `Repetition`: repetition is likely text. Empty samples have
    no tokens and take no part. Numbers of different scoring models do not compare: report `scoring_model.name`.

    Args:
        scoring_model: a scoring model, or the name or folder of one (see `ScoringModel.load`). It is moved to the metric's device
            when it is used, and stays there until moved away with `metric.scoring_model.to(...)`.
        dtype: weights' type, for a scoring model given by name.
        context_length: tokens of a text that are scored, for a scoring model given by name.
        batch_size: texts scored at once, for a scoring model given by name.
        **kwargs: as for `torchmetrics.Metric`.

    Attributes:
        per_sample: (N,) float64, the perplexities of the last update's texts on this rank; NaN for an
            empty text.

    Raises:
        UserError: if the scoring model cannot be loaded.
    """

    higher_is_better = False

    nll: Tensor
    tokens: Tensor

    def __init__(
        self,
        scoring_model: ScoringModel | str = "gpt2-large",
        dtype: str = "float32",
        context_length: int = 1024,
        batch_size: int = 8,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(scoring_model, str):
            scoring_model = ScoringModel.load(scoring_model, dtype, context_length, batch_size)
        self.scoring_model = scoring_model
        self.per_sample = torch.empty(0, dtype=torch.float64)
        self.add_sum("nll", torch.float64)
        self.add_sum("tokens", torch.int64)

    def update(self, texts: Sequence[str]) -> None:
        """ScoringModel N texts and add them."""
        self.count_samples(texts)
        scores = self.scoring_model.to(self.device).score(texts)
        self.per_sample = scores.perplexity
        self.nll += scores.nll.sum().to(self.device)
        self.tokens += scores.tokens.sum().to(self.device)

    def compute(self) -> Tensor:
        """The pooled perplexity, a float64 scalar.

        Raises:
            UserError: if there are no samples, all are empty, none is long enough to be predicted, or the
                scoring model's logits are not finite. All ranks raise together.
        """
        self.refuse_nothing()
        if self.tokens == 0:
            raise UserError(
                f"{self.scoring_model.name} predicts no token of one-token samples; give it longer texts"
            )
        if not self.nll.isfinite():
            raise UserError(
                f"the scoring model {self.scoring_model.name} gave logits that are not finite; load it with dtype='float32'"
            )
        return (self.nll / self.tokens).exp()
