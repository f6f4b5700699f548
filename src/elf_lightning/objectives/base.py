"""The interface of training objectives: draw all random numbers first, then compute losses from them."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch

from elf_lightning.batch import LatentBatch
from elf_lightning.flow import LogitNormal, RectifiedPath
from elf_lightning.network import ELFNetwork
from elf_lightning.objectives.draws import Draws, StepKey
from elf_lightning.objectives.losses import Losses


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
        """The losses of one micro-batch: a pure function of its arguments.

        Args:
            network: the denoiser and decoder.
            batch: B sequences with their clean latents.
            draws: the random numbers of the step, from `draw`.
            unknown_id: the token for all others outside a restricted vocabulary; it is never correct.

        Returns:
            Losses with a gradient in `total`.
        """

    @abstractmethod
    def evaluate(
        self, network: ELFNetwork, batch: LatentBatch, draws: Draws, unknown_id: int | None = None
    ) -> Losses:
        """Validation losses of all sequences in both modes, without gradient; arguments as in a call."""

    @abstractmethod
    def mean_counts(self, num_sequences: int) -> tuple[float, float]:
        """Expected numbers of decode sequences, and of denoise sequences that self-condition."""
