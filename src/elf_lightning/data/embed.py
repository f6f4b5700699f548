"""Token batches -> normalised latents."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from elf_lightning.batch import LatentBatch, LatentPromptBatch, PromptBatch, TokenBatch
from elf_lightning.data.examples import with_latents
from elf_lightning.encoders import Encoder, encoder_mask


@dataclass(frozen=True)
class Moments:
    """What latents are normalised by.

    Attributes:
        mean: one number, or one for each of the C channels.
        std: one number, so that channels keep their proportions.
    """

    mean: float | list[float]
    std: float

    def normalise(self, hidden: Tensor) -> Tensor:
        """`(hidden - mean) / std`, (B, S, C)."""
        return (hidden - torch.as_tensor(self.mean, dtype=hidden.dtype, device=hidden.device)) / self.std

    @classmethod
    def measure(cls, hidden: Tensor) -> Moments:
        """Each channel's mean, and one standard deviation around it, of hidden states (N, C)."""
        mean = hidden.double().mean(0)
        return cls(mean=mean.float().tolist(), std=float((hidden - mean).square().mean().sqrt()))


@dataclass(frozen=True)
class Embedder:
    """A frozen encoder with the normalisation of its latents.

    Args:
        encoder: gives the hidden states.
        moments: normalise them.
    """

    encoder: Encoder
    moments: Moments

    @torch.no_grad()
    def latents(self, batch: TokenBatch) -> Tensor:
        """Normalised latents (B, S, C) of a batch of tokenizer ids."""
        return self.moments.normalise(hidden_states(self.encoder, batch))

    @torch.no_grad()
    def __call__(self, batch: TokenBatch | PromptBatch) -> LatentBatch | LatentPromptBatch:
        """The batch with its latents; of prompts, those of the conditions, and 0 elsewhere."""
        if isinstance(batch, TokenBatch):
            return with_latents(batch, self.latents(batch))
        mask = encoder_mask(batch.condition_mask, batch.condition_mask)
        latents = self.moments.normalise(self.encoder(batch.input_ids, mask))
        return LatentPromptBatch(**vars(batch), latents=latents * batch.condition_mask[..., None])


def unconditional(batch: PromptBatch, latent_size: int) -> LatentPromptBatch:
    """Prompts without a condition: their latents are 0, and no encoder is needed."""
    latents = torch.zeros(*batch.input_ids.shape, latent_size, device=batch.input_ids.device)
    return LatentPromptBatch(**vars(batch), latents=latents)


@torch.no_grad()
def hidden_states(encoder: Encoder, batch: TokenBatch) -> Tensor:
    """What the encoder gives for a batch of tokenizer ids, (B, S, C)."""
    mask = encoder_mask(batch.attention_mask, batch.condition_mask, batch.label_drop)
    return encoder(batch.input_ids, mask)  # type: ignore[no-any-return]


def measure_moments(encoder: Encoder, batches: Iterable[TokenBatch]) -> Moments:
    """Moments of the real tokens of some batches."""
    return Moments.measure(
        torch.cat([hidden_states(encoder, batch)[batch.attention_mask] for batch in batches])
    )
