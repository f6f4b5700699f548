"""Every random number of a training step, drawn before the step begins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from elf_lightning.flow import seeded_generator


@dataclass(frozen=True)
class StepKey:
    """Which step the draws are for; equal keys give equal draws on the same kind of device.

    Attributes:
        seed: the run's seed.
        epoch: epoch number, or the name of a fixed set of draws such as "validation".
        batch: index of the micro-batch within the epoch.
        rank: process number; ranks draw different noise.
    """

    seed: int
    epoch: int | str
    batch: int
    rank: int = 0

    def generator(self, device: torch.device | str) -> torch.Generator:
        """The generator of this rank's draws, on `device`."""
        return seeded_generator("draws", self.seed, self.epoch, self.batch, self.rank, device=device)

    def counts_generator(self) -> torch.Generator:
        """The generator of this rank's row counts; on the CPU, since Python needs them to slice."""
        return seeded_generator("counts", self.seed, self.epoch, self.batch, self.rank)

    def shared_generator(self) -> torch.Generator:
        """A generator that is the same on every rank."""
        return seeded_generator("shared", self.seed, self.epoch, self.batch)


@dataclass(frozen=True)
class Draws:
    """The random numbers of one step over B rows of S positions with C latent values.

    Rows have their mode by position: the first `num_decode` rows decode, the next `num_self_cond` rows
    denoise with self-conditioning, the rest denoise without.

    Attributes:
        t: (B,) times in (0, 1); 0 is noise, 1 is data.
        noise: (B, S, C) unit noise of the denoise rows.
        guidance: (B,) guidance scales `w`.
        decode_mix: (B, S) share of the latents, lambda, in what the decode rows see.
        decode_noise: (B, S, C) unit noise of the decode rows.
        num_decode: number of decode rows.
        num_self_cond: number of denoise rows with self-conditioning.
    """

    t: Tensor
    noise: Tensor
    guidance: Tensor
    decode_mix: Tensor
    decode_noise: Tensor
    num_decode: int
    num_self_cond: int

    def with_counts(self, num_decode: int, num_self_cond: int) -> Self:
        """The same numbers with other modes."""
        return replace(self, num_decode=num_decode, num_self_cond=num_self_cond)
