"""What a step's losses are, and what of them is logged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from elf_lightning.objectives.draws import Draws


@dataclass(frozen=True)
class Losses:
    """Losses of one micro-batch; sums run over counting positions.

    Attributes:
        total: () the training loss, one denominator for both modes.
        denoise_sum: () squared velocity errors, summed over denoise rows.
        denoise_count: () counting positions of the denoise rows.
        decode_sum: () cross-entropies in nats, summed over decode rows.
        decode_count: () counting positions of the decode rows.
        decode_correct: () counting positions whose likeliest token is the right one.
    """

    total: Tensor
    denoise_sum: Tensor
    denoise_count: Tensor
    decode_sum: Tensor
    decode_count: Tensor
    decode_correct: Tensor

    @property
    def denoise(self) -> Tensor:
        """Mean squared velocity error of the denoise rows, (); 0 without such rows."""
        return (self.denoise_sum / self.denoise_count.clamp(min=1)).detach()

    @property
    def decode(self) -> Tensor:
        """Mean cross-entropy of the decode rows in nats, (); 0 without such rows."""
        return (self.decode_sum / self.decode_count.clamp(min=1)).detach()

    @property
    def decode_accuracy(self) -> Tensor:
        """Share of the decode rows' tokens that are recovered, (); 0 without such rows."""
        return self.decode_correct / self.decode_count.clamp(min=1)

    def over_ranks(self, add: Callable[[Tensor], Tensor], ranks: int) -> Losses:
        """Losses of all ranks' micro-batches together, without gradient.

        Args:
            add: makes the sum over ranks of a tensor.
            ranks: their number.
        """
        total, *sums = add(torch.stack([*vars(self).values()]).detach()).unbind()
        return Losses(total / ranks, *sums)

    def named(self, prefix: str, draws: Draws) -> dict[str, Tensor]:
        """What to log, by name; a mode without rows in this micro-batch is left out."""
        values = {"loss": self.total.detach()}
        if draws.num_decode < len(draws.t):
            values["denoise_loss"] = self.denoise
        if draws.num_decode:
            values |= {"decode_loss": self.decode, "decode_accuracy": self.decode_accuracy}
        return {f"{prefix}/{name}": value for name, value in values.items()}
