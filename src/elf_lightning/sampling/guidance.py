"""Guidance: denoisers around a denoiser.

On a straight path the velocity is linear in `x_hat`, so that mixing estimates is mixing velocities.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from elf_lightning.sampling.field import Denoiser

Inputs = tuple[Tensor, Tensor]
"""`z` and `self_cond`, (B, S, C) each."""


def _guided(denoiser: Denoiser, scale: float, t: float, given: Inputs, unguided: Inputs) -> Tensor:
    """`x_u + scale * (x_c - x_u)`, (B, S, C), both passes as one batch."""
    z, self_cond = (torch.cat(pair) for pair in zip(given, unguided, strict=True))
    x_c, x_u = denoiser(z, t, self_cond).chunk(2)
    return x_u + scale * (x_c - x_u)


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
        unguided = z.masked_fill(hidden, 0), self_cond.masked_fill(hidden, 0)
        return _guided(self.denoiser, self.cfg_scale, t, (z, self_cond), unguided)


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
        unguided = z, self_cond.masked_fill(unknown, 0)
        return _guided(self.denoiser, self.guidance, t, (z, self_cond), unguided)


@dataclass(frozen=True)
class RepetitionSteering:
    """Steering away from repetition: `self_cond - strength * direction`, except at the condition.

    Zhang et al. 2026, arXiv 2607.00588.

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
