"""What all metrics of texts share: they count their samples, and refuse to speak of nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from elf_lightning.errors import UserError


class TextMetric(Metric):
    """A metric of texts, any number of them on any rank.

    All states are sums of one fixed size, so a rank without texts takes part in the reduction like the
    others. After `compute` has raised, `reset` makes the metric usable again.

    Args:
        **kwargs: as for `torchmetrics.Metric`.
    """

    full_state_update = False
    is_differentiable = False

    samples: Tensor
    written: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_sum("samples", torch.int64)
        self.add_sum("written", torch.int64)

    def add_sum(self, name: str, dtype: torch.dtype, size: tuple[int, ...] = ()) -> None:
        """Add a state of zeros that ranks add up: int64 for counts, float64 so that order does not show."""
        self.add_state(name, torch.zeros(size, dtype=dtype), dist_reduce_fx="sum")

    def count_samples(self, texts: Sequence[str]) -> None:
        """Count the texts, and those with anything but white space in them."""
        self.samples += len(texts)
        self.written += sum(1 for text in texts if text.strip())

    def refuse_nothing(self) -> None:
        """Stop before a number is made of no text.

        Raises:
            UserError: if there are no samples on any rank, or all are empty.
        """
        name = type(self).__name__
        if self.samples == 0:
            raise UserError(f"{name} has no samples to score; give it at least one text")
        if self.written == 0:
            raise UserError(f"{name}: all {int(self.samples)} samples are empty; is the model trained?")


class SampleMean(TextMetric):
    """The mean over samples of one number a sample, which a subclass defines in `measure`.

    Attributes:
        per_sample: (N,) float64, the numbers of the last update's texts on this rank; NaN where a text is
            too short to have one, which the mean leaves out.
    """

    total: Tensor
    measured: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_sum("total", torch.float64)
        self.add_sum("measured", torch.int64)
        self.per_sample = torch.empty(0, dtype=torch.float64)

    def measure(self, texts: Sequence[str]) -> list[float]:
        """One number for each text, NaN where there is none.

        Raises:
            NotImplementedError: here; a subclass defines it.
        """
        raise NotImplementedError

    def update(self, texts: Sequence[str]) -> None:
        """Add N texts."""
        self.count_samples(texts)
        self.per_sample = torch.tensor(self.measure(texts), dtype=torch.float64)
        self.total += self.per_sample.nansum().to(self.device)
        self.measured += int((~self.per_sample.isnan()).sum())

    def compute(self) -> Tensor:
        """The mean, a float64 scalar; NaN where every text is too short.

        Raises:
            UserError: if there are no samples, or all are empty.
        """
        self.refuse_nothing()
        return self.total / self.measured
