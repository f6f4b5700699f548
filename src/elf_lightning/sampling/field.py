"""The velocity field of a network that estimates clean latents, and its guidance."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from elf_lightning.flow import KnownLatents, RectifiedPath
from elf_lightning.network import ELFNetwork

Denoiser = Callable[[Tensor, float, Tensor], Tensor]
"""`x_hat` (B, S, C) of noised latents (B, S, C), a time and an earlier `x_hat`: a network, perhaps guided."""


class NetworkDenoiser:
    """A network at one `guidance` scale; all sequences of a call share their time, and so their prefix.

    Sequences that have ended, where `running` (B,) is False, are skipped; None: all run.
    """

    def __init__(self, network: ELFNetwork, guidance: float, running: Tensor | None = None) -> None:
        self.network = network
        self.guidance = guidance
        self.running = running
        self._prefixes: dict[float, Tensor] = {}

    def __call__(self, z: Tensor, t: float, self_cond: Tensor) -> Tensor:
        """`x_hat` (k*B, S, C), k sets of B sequences under guidance; 0 for those that have ended."""
        if t not in self._prefixes:
            time = torch.full((1,), t, device=z.device)
            guidance = torch.full_like(time, self.guidance)
            self._prefixes[t] = self.network.prefix(time, guidance, torch.zeros_like(time))
        prefix = self._prefixes[t]
        if self.running is None:
            return self.network.estimate(prefix, z, self_cond)
        x_hat, rows = torch.zeros_like(z), self.running.repeat(len(z) // len(self.running))
        x_hat[rows] = self.network.estimate(prefix, z[rows], self_cond[rows])
        return x_hat


@dataclass(frozen=True)
class ClassifierFreeGuidance:
    """Away from the estimate without the condition: `x_u + cfg_scale * (x_c - x_u)`.

    On a straight path the velocity is linear in `x_hat`, so that mixing estimates is mixing velocities.

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
        unguided = self_cond.masked_fill(hidden, 0)
        z = torch.cat([z, z.masked_fill(hidden, 0)])
        x_c, x_u = self.denoiser(z, t, torch.cat([self_cond, unguided])).chunk(2)
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
        unguided = self_cond.masked_fill(~self.condition_mask.repeat(copies, 1)[..., None], 0)
        x_c, x_u = self.denoiser(z.repeat(2, 1, 1), t, torch.cat([self_cond, unguided])).chunk(2)
        return x_u + self.guidance * (x_c - x_u)


@dataclass(frozen=True)
class RepetitionSteering:
    """Away from repetition: `self_cond - strength * direction`, but for the condition (arXiv 2607.00588)."""

    denoiser: Denoiser
    direction: Tensor  # (C,), unit vector towards repetition
    strength: float  # `lambda`
    condition_mask: Tensor  # (B, S)

    def __call__(self, z: Tensor, t: float, self_cond: Tensor) -> Tensor:
        """`x_hat` (B, S, C)."""
        push = (~self.condition_mask)[..., None] * (self.strength * self.direction)
        return self.denoiser(z, t, self_cond - push)


@dataclass(eq=False)
class LatentField:
    """Velocity `(x_hat - z) / max(1 - t, t_eps)` towards a denoiser's estimate, which is fed back to it.

    The condition stays clean at all times. Infilled positions start as noise and follow the straight path to
    their known latents, as the network saw them in training.

    Attributes:
        denoiser: estimator of the clean latents.
        path: the path that the network was trained on.
        condition: the clean prefix.
        infill: further positions with known clean latents, if any.
        running: (B,) boolean, False for sequences that have ended, whose estimate stays; None: all run.
        x_hat: (B, S, C) the last estimate, known positions restored; at the start the condition alone.
        network_calls: (B,) int64, calls for each sequence so far.
    """

    denoiser: Denoiser
    path: RectifiedPath
    condition: KnownLatents
    infill: KnownLatents | None = None
    running: Tensor | None = None

    def __post_init__(self) -> None:
        self.x_hat = self.clamp(torch.zeros_like(self.condition.latents))
        self.network_calls = torch.zeros_like(self.condition.mask[:, 0], dtype=torch.int64)

    def __call__(self, z: Tensor, t: float) -> Tensor:
        """Velocity (B, S, C) at `z` (B, S, C); 0 at condition positions if `z` is clamped."""
        return self.path.velocity(self._estimate(z, t), z, z.new_full(z.shape[:1], t))

    def step(self, z: Tensor, t: float, span: float) -> Tensor:
        """`z + span * self(z, t)` (B, S, C), in one pass over the latents: see `RectifiedPath.velocity`."""
        return z.lerp(self._estimate(z, t).type_as(z), span / max(1 - t, self.path.t_eps))

    def _estimate(self, z: Tensor, t: float) -> Tensor:
        x_hat = self.clamp(self.denoiser(z, t, self.x_hat))
        if self.infill is not None:
            x_hat = self.infill.restore(x_hat)
        self.x_hat = self.ended_at(self.x_hat, x_hat)
        self.count_call()
        return self.x_hat

    def clamp(self, z: Tensor) -> Tensor:
        """`z` (B, S, C) with the clean condition in its place, for solvers that add noise."""
        return self.condition.restore(z)

    def count_call(self) -> None:
        """Count a network call for every running sequence."""
        self.network_calls = self.network_calls + (1 if self.running is None else self.running)

    def ended_at(self, end: Tensor, z: Tensor) -> Tensor:
        """`z` where sequences run, and `end` where they have ended, (B, S, C) each."""
        return z if self.running is None else torch.where(self.running[:, None, None], z, end)
