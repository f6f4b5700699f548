"""Token batches -> normalised latents."""

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
        if mean is None and std is None:
            return None
        if mean is None or std is None:
            raise UserError(
                f"data.latent_mean {mean} and data.latent_std {std}: give both, or neither to measure them"
            )
        if std <= 0:
            raise UserError(f"data.latent_std {std} must be positive")
        return cls(mean, std)

    @property
    def over_channels(self) -> Self:
        """One mean and one standard deviation over all channels, as published ones are."""
        mean = torch.tensor(self.mean, dtype=torch.float64)
        between = (mean - mean.mean()).square().mean()
        return type(self)(float(mean.mean()), float((self.std**2 + between) ** 0.5))


class Embedder:
    """A frozen encoder with normalised latents; it moves to the device of its batches."""

    def __init__(self, encoder: Encoder, latent_statistics: LatentStatistics) -> None:
        self.encoder = encoder
        self.latent_statistics = latent_statistics
        self._mean = torch.tensor(latent_statistics.mean, dtype=torch.float32)
        self._device: torch.device | None = None

    def tokens(self, batch: TokenBatch) -> LatentBatch:
        """The batch with its normalised latents."""
        mask = None
        if not batch.full:
            mask = encoder_mask(batch.attention_mask, batch.condition_mask, batch.label_drop)
        return LatentBatch(**vars(batch), latents=self._embed(batch.input_ids, mask))

    def prompts(self, batch: PromptBatch) -> LatentPromptBatch:
        """The prompts with the normalised latents of their conditions, 0 elsewhere."""
        latents = self._embed(batch.input_ids, encoder_mask(batch.condition_mask, batch.condition_mask))
        return LatentPromptBatch(**vars(batch), latents=latents * batch.condition_mask[..., None])

    @torch.no_grad()
    def _embed(self, input_ids: Tensor, mask: Tensor | None) -> Tensor:
        if input_ids.device != self._device:
            self._device = input_ids.device
            self.encoder.load().to(self._device)
            self._mean = self._mean.to(self._device)
        hidden: Tensor = self.encoder(input_ids, mask)
        return (hidden - self._mean) / self.latent_statistics.std


def measure_latent_statistics(encoder: Encoder, batches: Iterable[TokenBatch]) -> LatentStatistics:
    """The mean per channel, and the standard deviation around it over all channels, without padding."""
    embedder = Embedder(encoder, LatentStatistics(0.0, 1.0))
    # On the CPU, since not every accelerator has float64.
    hidden = torch.cat([embedder.tokens(batch).latents[batch.attention_mask].cpu() for batch in batches])
    mean = hidden.double().mean(0)
    return LatentStatistics(mean.float().tolist(), float((hidden - mean).square().mean().sqrt()))
