"""How many tokens the token head recovers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from elf_lightning.errors import UserError


class DecodeAccuracy(Metric):
    """Share of counting positions at which the predicted id is the right one, over all rows of all ranks.

    Args:
        unknown_id: id that stands for tokens outside a restricted vocabulary. Where the right id is this
            one the prediction counts as wrong, since the text cannot come back. None where every token
            has an id.
        **kwargs: as for `torchmetrics.Metric`.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    correct: Tensor
    counting: Tensor

    def __init__(self, unknown_id: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.unknown_id = unknown_id
        self.add_state("correct", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("counting", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted_ids: Tensor, input_ids: Tensor, mask: Tensor) -> None:
        """Add rows of B predictions, possibly none.

        Args:
            predicted_ids: (B, S) int64.
            input_ids: (B, S) int64, the right ids.
            mask: (B, S) boolean, True at positions that count.

        Raises:
            UserError: if the shapes differ.
        """
        if not predicted_ids.shape == input_ids.shape == mask.shape:
            raise UserError(
                f"predicted ids {tuple(predicted_ids.shape)}, right ids {tuple(input_ids.shape)} and mask "
                f"{tuple(mask.shape)} differ in shape; give all three as (rows, positions)"
            )
        right = (predicted_ids == input_ids) & mask
        if self.unknown_id is not None:
            right &= input_ids != self.unknown_id
        self.correct += right.sum()
        self.counting += mask.sum()

    def compute(self) -> Tensor:
        """The share in [0, 1], a float32 scalar.

        Raises:
            UserError: if no position counts on any rank.
        """
        if self.counting == 0:
            raise UserError("DecodeAccuracy has no counting position; give it a mask that is not empty")
        return self.correct / self.counting
