"""Token batches -> normalised latents."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from elf_lightning.batch import LatentBatch, LatentPromptBatch, PromptBatch, TokenBatch
from elf_lightning.encoders import Encoder, encoder_mask
from elf_lightning.errors import UserError


@dataclass(frozen=True)
class LatentStatistics:
    """Mean and standard deviation that normalise latents.

    Attributes:
        mean: one number, or one per channel (C).
        std: one number, so that the ratios between channels are kept.
    """

    mean: float | list[float]
    std: float

    @classmethod
    def given(cls, mean: float | list[float] | None, std: float | None) -> Self | None:
        """The statistics from `data.latent_mean` and `data.latent_std`; None to measure them."""
        if (mean is None) != (std is None):
            raise UserError(
                f"data.latent_mean {mean} and data.latent_std {std}: give both, or neither to measure them"
            )
        if mean is None or std is None:
            return None
        if std <= 0:
            raise UserError(f"data.latent_std {std} must be positive")
        return cls(mean, std)

    @property
    def over_channels(self) -> LatentStatistics:
        """One mean and one standard deviation over all channels, as published ones are."""
        mean = torch.tensor(self.mean, dtype=torch.float64)
        between = (mean - mean.mean()).square().mean()
        return LatentStatistics(float(mean.mean()), float((self.std**2 + between) ** 0.5))


class Embedder:
    """A frozen encoder with normalised latents; it moves to the device of its batches."""

    def __init__(self, encoder: Encoder, latent_statistics: LatentStatistics) -> None:
        self.encoder = encoder
        self.latent_statistics = latent_statistics
        self._mean = torch.tensor(latent_statistics.mean, dtype=torch.float32)
        self._device: torch.device | None = None

    def tokens(self, batch: TokenBatch) -> LatentBatch:
        """The batch with its normalised latents."""
        self._move_to(batch.input_ids.device)
        return LatentBatch(**vars(batch), latents=self._normalised(hidden_states(self.encoder, batch)))

    @torch.no_grad()
    def prompts(self, batch: PromptBatch) -> LatentPromptBatch:
        """The prompts with the normalised latents of their conditions, 0 elsewhere."""
        self._move_to(batch.input_ids.device)
        mask = encoder_mask(batch.condition_mask, batch.condition_mask)
        latents = self._normalised(self.encoder(batch.input_ids, mask))
        return LatentPromptBatch(**vars(batch), latents=latents * batch.condition_mask[..., None])

    def _normalised(self, hidden: Tensor) -> Tensor:
        return (hidden - self._mean) / self.latent_statistics.std

    def _move_to(self, device: torch.device) -> None:
        if device != self._device:
            self.encoder.load().to(device)
            self._mean = self._mean.to(device)
            self._device = device


@torch.no_grad()
def hidden_states(encoder: Encoder, batch: TokenBatch) -> Tensor:
    """The encoder's output for a batch of tokenizer ids, (B, S, C)."""
    mask = None
    if not batch.full:
        mask = encoder_mask(batch.attention_mask, batch.condition_mask, batch.label_drop)
    return encoder(batch.input_ids, mask)  # type: ignore[no-any-return]


def measure_latent_statistics(encoder: Encoder, batches: Iterable[TokenBatch]) -> LatentStatistics:
    """The mean per channel, and the standard deviation around it over all channels, without padding."""
    hidden = torch.cat([hidden_states(encoder, batch)[batch.attention_mask] for batch in batches])
    mean = hidden.double().mean(0)
    return LatentStatistics(mean.float().tolist(), float((hidden - mean).square().mean().sqrt()))
