"""Training objectives: draw all random numbers first, then compute losses from them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from elf_lightning.batch import LatentBatch
from elf_lightning.flow import LogitNormal, RectifiedPath, seeded_generator
from elf_lightning.network import ELFNetwork


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

    def generator(self, device: torch.device | str, purpose: str = "draws") -> torch.Generator:
        """The generator of this rank's draws for a `purpose`, on `device`."""
        return seeded_generator(purpose, self.seed, self.epoch, self.batch, self.rank, device=device)


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

    def over_ranks(self) -> Self:
        """Losses of all ranks together, without gradient; needs a process group."""
        together = torch.stack([*vars(self).values()]).detach()
        torch.distributed.all_reduce(together)
        total, *sums = together.unbind()
        return type(self)(total / torch.distributed.get_world_size(), *sums)

    def named(self, prefix: str, draws: Draws) -> dict[str, Tensor]:
        """Values to log by name, without those of a mode that has no sequence in this micro-batch."""
        values = {"loss": self.total.detach()}
        if draws.num_decode < len(draws.t):
            values["denoise_loss"] = self.denoise
        if draws.num_decode:
            values |= {"decode_loss": self.decode, "decode_accuracy": self.decode_accuracy}
        return {f"{prefix}/{name}": value for name, value in values.items()}


class Objective(ABC):
    """What a network is trained for. Subclasses are frozen dataclasses of settings without state.

    Attributes:
        path: how latents and noise are mixed; samplers follow the same path.
        times: distribution of training times; samplers draw their time grids from it.
    """

    path: RectifiedPath
    times: LogitNormal

    @abstractmethod
    def draw(self, shape: torch.Size | tuple[int, int, int], key: StepKey, device: torch.device) -> Draws:
        """The random numbers of the step `key` for latents of `shape` (B, S, C), on `device`."""

    @abstractmethod
    def __call__(
        self, network: ELFNetwork, batch: LatentBatch, draws: Draws, unknown_id: int | None = None
    ) -> Losses:
        """The losses of one micro-batch, with a gradient in `total`: a pure function of its arguments.

        `draws` come from `draw`. `unknown_id` is the token for all others outside a restricted vocabulary; it
        is never correct.
        """

    @abstractmethod
    def evaluate(
        self, network: ELFNetwork, batch: LatentBatch, draws: Draws, unknown_id: int | None = None
    ) -> Losses:
        """Validation losses of all sequences in both modes, without gradient; arguments as in a call."""

    @abstractmethod
    def mean_counts(self, num_sequences: int) -> tuple[float, float]:
        """Expected numbers of decode sequences, and of pairs of passes without gradient, for FLOPs."""
