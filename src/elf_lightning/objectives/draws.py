"""All random numbers of a training step, drawn before it begins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from elf_lightning.flow import seeded_generator


@dataclass(frozen=True)
class StepKey:
    """Identifies a step; equal keys give equal draws on the same kind of device.

    Attributes:
        seed: the run's seed.
        epoch: epoch number, or the name of a fixed set of draws, such as "validation".
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
        """The generator of this rank's mode counts; on the CPU, since Python slices by them."""
        return seeded_generator("counts", self.seed, self.epoch, self.batch, self.rank)

    def shared_generator(self) -> torch.Generator:
        """A generator that is the same on every rank."""
        return seeded_generator("shared", self.seed, self.epoch, self.batch)


@dataclass(frozen=True)
class Draws:
    """The random numbers of one step for B sequences of S positions with C latent values.

    The mode of a sequence follows from its position in the batch: the first `num_decode` decode, the next
    `num_self_cond` denoise with self-conditioning, the others denoise without.

    Attributes:
        t: (B,) times in (0, 1); 0 is noise, 1 is data.
        noise: (B, S, C) unit noise of the denoise sequences.
        guidance: (B,) guidance scales `w`.
        decode_mix: (B, S) weight of the latents, lambda, in the inputs of the decode sequences.
        decode_noise: (B, S, C) unit noise of the decode sequences.
        num_decode: number of decode sequences.
        num_self_cond: number of denoise sequences with self-conditioning.
    """

    t: Tensor
    noise: Tensor
    guidance: Tensor
    decode_mix: Tensor
    decode_noise: Tensor
    num_decode: int
    num_self_cond: int

    def with_counts(self, num_decode: int, num_self_cond: int) -> Self:
        """The same random numbers with other mode counts."""
        return replace(self, num_decode=num_decode, num_self_cond=num_self_cond)
