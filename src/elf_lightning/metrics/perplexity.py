"""How likely a scoring model finds the samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from elf_lightning.errors import UserError
from elf_lightning.metrics.number import MetricNumber
from elf_lightning.metrics.scoring_model import ScoringModel
from elf_lightning.metrics.text_metric import TextMetric


class GenerativePerplexity(TextMetric):
    """`exp` of the scoring model's mean nll per token, pooled over all samples (as in arXiv 2605.10938).

    Never read it without `UnigramEntropy` and `Repetition`: a scoring model finds repetition likely. Empty
    samples have no tokens and do not count. Numbers under different scoring models are not comparable.

    Args:
        scoring_model: a scoring model, or a name or folder to load it from. It is moved to the metric's
            device when it is used, and stays there until moved away with `metric.scoring_model.to(...)`.
        **kwargs: as for `torchmetrics.Metric`.

    Attributes:
        per_sample: (N,) float64, the perplexities of the last update's texts on this rank; NaN for an
            empty text.

    Raises:
        UserError: if the scoring model cannot be loaded.
    """

    numbers = (
        MetricNumber(
            "gen_ppl",
            "Gen. PPL",
            "How unlikely the scoring model finds it. Low is good, down to real text; repetition is low too.",
            digits=1,
            needs_scoring_model=True,
            higher_is_better=False,
            headline=True,
            log=True,
        ),
    )

    nll: Tensor
    tokens: Tensor

    def __init__(self, scoring_model: ScoringModel | str = "gpt2-large", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(scoring_model, str):
            scoring_model = ScoringModel.load(scoring_model)
        self.scoring_model = scoring_model
        self.per_sample = torch.empty(0, dtype=torch.float64)
        self.add_sum("nll", torch.float64)
        self.add_sum("tokens", torch.int64)

    def update(self, texts: Sequence[str]) -> None:
        """Score N texts and add them."""
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
        self.require_text()
        name = self.scoring_model.name
        if self.tokens == 0:
            raise UserError(f"{name} predicts no token of one-token samples; give it longer texts")
        if not self.nll.isfinite():
            raise UserError(
                f"the scoring model {name} gave logits that are not finite; load it with dtype='float32'"
            )
        return (self.nll / self.tokens).exp()
