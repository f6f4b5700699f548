"""The velocity field that a network makes of noised latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from elf_lightning.flow import RectifiedPath
from elf_lightning.network import ELFNetwork
from elf_lightning.network.compiling import room_for_graphs


class VelocityField(Protocol):
    """What solvers integrate."""

    def __call__(self, z: Tensor, t: float) -> Tensor:
        """Velocity (B, S, C) of latents `z` (B, S, C) at time `t`."""

    def clamp(self, z: Tensor) -> Tensor:
        """`z` (B, S, C) with its condition restored, for solvers that add noise."""


class Denoiser(Protocol):
    """An estimator of the clean latents: a network, or guidance around one."""

    def __call__(self, z: Tensor, t: float, self_cond: Tensor) -> Tensor:
        """`x_hat` (B, S, C) for noised latents and an earlier `x_hat`, (B, S, C), at time `t`."""


class NetworkDenoiser:
    """A network with one time and one guidance scale for all rows, so that they share their prefix.

    Args:
        network: estimates the clean latents.
        guidance: scale `w`.
        times: at which it will be asked; the prefixes of all of them are made at once.
        compile: run the network through `torch.compile`.
    """

    def __init__(
        self, network: ELFNetwork, guidance: float, times: Sequence[float], compile: bool = False
    ) -> None:
        t = torch.tensor(times, device=network.rotary.device)
        prefixes = network.prefix(t, torch.full_like(t, guidance), torch.zeros_like(t))
        self.prefixes = dict(zip(times, prefixes.split(1), strict=True))
        self.network = network
        self.estimate = torch.compile(_estimate, **room_for_graphs()) if compile else _estimate

    def __call__(self, z: Tensor, t: float, self_cond: Tensor) -> Tensor:
        """`x_hat` (B, S, C); `t` is one of the times."""
        return self.estimate(self.network, self.prefixes[t], z, self_cond)


def _estimate(network: ELFNetwork, prefix: Tensor, z: Tensor, self_cond: Tensor) -> Tensor:
    return network.latent_head(network.hidden(prefix, z, self_cond))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class KnownLatents:
    """Positions whose clean latents are known.

    Attributes:
        latents: (B, S, C) clean latents; any values at unknown positions.
        mask: (B, S) boolean, True at known positions.
    """

    latents: Tensor
    mask: Tensor

    def restore(self, z: Tensor) -> Tensor:
        """`z` (B, S, C) with the known latents in their places."""
        return torch.where(self.mask[..., None], self.latents, z)


class LatentField:
    """Velocity towards the estimate of a denoiser, which is fed its last estimate each time.

    A condition stays clean at all times. Infilled positions start as noise and are drawn along the straight
    path to their known latents, as the network saw them in training.

    Args:
        denoiser: estimator of the clean latents.
        path: the path that the network was trained on.
        condition: the clean prefix.
        infill: further positions whose end is known; None for none.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        path: RectifiedPath,
        condition: KnownLatents,
        infill: KnownLatents | None = None,
    ) -> None:
        self.denoiser = denoiser
        self.path = path
        self.condition = condition
        self.infill = infill
        self.x_hat = condition.restore(torch.zeros_like(condition.latents))
        """(B, S, C) the last estimate, known positions restored; at the start the condition alone."""

    def __call__(self, z: Tensor, t: float) -> Tensor:
        """Velocity (B, S, C) at `z` (B, S, C); 0 at condition positions if `z` is clamped."""
        x_hat = self.clamp(self.denoiser(z, t, self.x_hat))
        self.x_hat = x_hat if self.infill is None else self.infill.restore(x_hat)
        return self.path.velocity(self.x_hat, z, z.new_full(z.shape[:1], t))

    def clamp(self, z: Tensor) -> Tensor:
        """`z` (B, S, C) with the clean condition in its place."""
        return self.condition.restore(z)
