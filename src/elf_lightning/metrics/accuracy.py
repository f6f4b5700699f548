"""How many tokens the token head predicts correctly."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from elf_lightning.errors import UserError


class DecodeAccuracy(Metric):
    """Fraction of the loss mask's positions whose token is predicted correctly, over all ranks.

    Predicting `unknown_id`, which stands for tokens outside a restricted vocabulary, counts as wrong, since
    the text is lost. Other arguments are torchmetrics'.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    correct: Tensor
    total: Tensor

    def __init__(self, unknown_id: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.unknown_id = unknown_id
        for name in ("correct", "total"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted_ids: Tensor, input_ids: Tensor, mask: Tensor) -> None:
        """Add B sequences, which may be 0: predicted and correct ids, int64, and loss mask, all (B, S)."""
        if not predicted_ids.shape == input_ids.shape == mask.shape:
            raise UserError(
                f"predicted ids {tuple(predicted_ids.shape)}, correct ids {tuple(input_ids.shape)} and mask "
                f"{tuple(mask.shape)} differ in shape; give all three as (sequences, positions)"
            )
        correct = (predicted_ids == input_ids) & mask
        if self.unknown_id is not None:
            correct &= input_ids != self.unknown_id
        self.correct += correct.sum()
        self.total += mask.sum()

    def compute(self) -> Tensor:
        """The fraction in [0, 1], a float32 scalar; a `UserError` if the mask is empty on every rank."""
        if self.total == 0:
            raise UserError("DecodeAccuracy has no positions to count; give it a mask that is not empty")
        return self.correct / self.total
