"""Guidance: denoisers around a denoiser.

On a straight path the velocity is linear in `x_hat`, so that mixing estimates is mixing velocities.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from elf_lightning.sampling.field import Denoiser

Pair = tuple[Tensor, Tensor]


def _both(denoiser: Denoiser, z: Pair, t: float, self_cond: Pair) -> Pair:
    """Two passes as one batch: `x_hat` (B, S, C) of each."""
    first, second = denoiser(torch.cat(z), t, torch.cat(self_cond)).chunk(2)
    return first, second


@dataclass(frozen=True)
class ClassifierFreeGuidance:
    """Away from the estimate without the condition: `x_u + cfg_scale * (x_c - x_u)`.

    Attributes:
        denoiser: what to guide.
        condition_mask: (B, S), True at the positions that the unconditional pass sees as zeros.
        cfg_scale: 1 is no guidance.
    """

    denoiser: Denoiser
    condition_mask: Tensor
    cfg_scale: float

    def __call__(self, z: Tensor, t: float, self_cond: Tensor) -> Tensor:
        """`x_hat` (B, S, C)."""
        hidden = self.condition_mask[..., None]
        x_c, x_u = _both(
            self.denoiser, (z, z.masked_fill(hidden, 0)), t, (self_cond, self_cond.masked_fill(hidden, 0))
        )
        return x_u + self.cfg_scale * (x_c - x_u)


@dataclass(frozen=True)
class TwoPassGuidance:
    """Self-conditioning guidance for a network without guidance tokens: `x_u + guidance * (x_c - x_u)`.

    Attributes:
        denoiser: what to guide.
        condition_mask: (B, S), True at the positions that the unguided pass still sees in `self_cond`.
        guidance: scale `w`; 1 is no guidance.
    """

    denoiser: Denoiser
    condition_mask: Tensor
    guidance: float

    def __call__(self, z: Tensor, t: float, self_cond: Tensor) -> Tensor:
        """`x_hat` (B, S, C)."""
        copies = len(z) // len(self.condition_mask)
        unknown = ~self.condition_mask.repeat(copies, 1)[..., None]
        x_c, x_u = _both(self.denoiser, (z, z), t, (self_cond, self_cond.masked_fill(unknown, 0)))
        return x_u + self.guidance * (x_c - x_u)


@dataclass(frozen=True)
class RepetitionSteering:
    """Subtracts `strength * direction` from the self-conditioning input, except where the condition is.

    Steers away from repetition (Zhang et al. 2026, arXiv 2607.00588).

    Attributes:
        denoiser: what to steer.
        direction: (C,) unit vector towards repetition.
        strength: `lambda`.
        condition_mask: (B, S), True at condition positions.
    """

    denoiser: Denoiser
    direction: Tensor
    strength: float
    condition_mask: Tensor

    def __call__(self, z: Tensor, t: float, self_cond: Tensor) -> Tensor:
        """`x_hat` (B, S, C)."""
        push = (~self.condition_mask)[..., None] * (self.strength * self.direction)
        return self.denoiser(z, t, self_cond - push)
