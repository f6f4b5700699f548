"""Positions of noised latents whose clean latents are given, such as conditions."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class KnownLatents:
    """Positions whose clean latents are known.

    Attributes:
        latents: (B, S, C) clean latents; any values at unknown positions.
        mask: (B, S) boolean, True at known positions.
        empty: set if no position is known, since the mask is on the device and looking at it would wait.
    """

    latents: Tensor
    mask: Tensor
    empty: bool = False

    def __getitem__(self, rows: slice) -> Self:
        """The same for some of the sequences."""
        return type(self)(self.latents[rows], self.mask[rows], self.empty)

    @property
    def alone(self) -> Tensor:
        """The known latents, and zeros elsewhere, (B, S, C)."""
        return torch.zeros_like(self.latents) if self.empty else self.latents * self.mask[..., None]

    def restore(self, z: Tensor) -> Tensor:
        """`z` (B, S, C) with the known latents in their places; `z` itself if none are known."""
        return z if self.empty else torch.where(self.mask[..., None], self.latents, z)
