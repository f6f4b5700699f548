"""The losses of a step, and their logged values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from elf_lightning.objectives.draws import Draws


@dataclass(frozen=True)
class Losses:
    """Losses of one micro-batch; sums and counts run over the loss mask.

    Attributes:
        total: () the training loss, with one denominator for both modes.
        denoise_sum: () squared velocity errors, summed over denoise sequences.
        denoise_count: () tokens of the denoise sequences.
        decode_sum: () cross-entropies in nats, summed over decode sequences.
        decode_count: () tokens of the decode sequences.
        decode_correct: () tokens that are predicted correctly.
    """

    total: Tensor
    denoise_sum: Tensor
    denoise_count: Tensor
    decode_sum: Tensor
    decode_count: Tensor
    decode_correct: Tensor

    @property
    def denoise(self) -> Tensor:
        """Mean squared velocity error of the denoise sequences, (); 0 without any."""
        return (self.denoise_sum / self.denoise_count.clamp(min=1)).detach()

    @property
    def decode(self) -> Tensor:
        """Mean cross-entropy of the decode sequences in nats, (); 0 without any."""
        return (self.decode_sum / self.decode_count.clamp(min=1)).detach()

    @property
    def decode_accuracy(self) -> Tensor:
        """Fraction of the decode sequences' tokens that are correct, (); 0 without any."""
        return self.decode_correct / self.decode_count.clamp(min=1)

    def over_ranks(self, add: Callable[[Tensor], Tensor], ranks: int) -> Losses:
        """Losses of the micro-batches of all ranks together, without gradient.

        Args:
            add: sums a tensor over ranks.
            ranks: their number.
        """
        total, *sums = add(torch.stack([*vars(self).values()]).detach()).unbind()
        return Losses(total / ranks, *sums)

    def named(self, prefix: str, draws: Draws) -> dict[str, Tensor]:
        """Values to log by name, without those of a mode that has no sequence in this micro-batch."""
        values = {"loss": self.total.detach()}
        if draws.num_decode < len(draws.t):
            values["denoise_loss"] = self.denoise
        if draws.num_decode:
            values |= {"decode_loss": self.decode, "decode_accuracy": self.decode_accuracy}
        return {f"{prefix}/{name}": value for name, value in values.items()}
