"""The two output heads, for latents and for tokens. Both stay in float32."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elf_lightning.network.layers import RMSNorm, full_precision

CHUNK_LOGITS = 2**24
"""Logits that training and validation hold at a time, 64 MiB; at least those of one token."""


class LatentHead(nn.Module):
    """Hidden states to the estimate of the clean latents, `x_hat`."""

    def __init__(self, hidden_size: int, latent_size: int) -> None:
        super().__init__()
        self.norm = RMSNorm(hidden_size)
        self.linear = nn.Linear(hidden_size, latent_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states (B, S, H) -> `x_hat` (B, S, C) in float32."""
        with full_precision(hidden):
            return self.linear(self.norm(hidden.float()))  # type: ignore[no-any-return]


class TokenHead(nn.Module):
    """Hidden states to one logit for every token of the vocabulary."""

    def __init__(self, hidden_size: int, latent_size: int, vocab_size: int) -> None:
        super().__init__()
        self.project = nn.Linear(hidden_size, latent_size)
        self.unembed = nn.Linear(latent_size, vocab_size)

    def features(self, hidden: Tensor) -> Tensor:
        """Hidden states (B, S, H) -> inputs of `unembed`, (B, S, C) in float32."""
        with full_precision(hidden):
            return F.gelu(self.project(hidden.float()), approximate="tanh")

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states (B, S, H) -> logits (B, S, V) in float32."""
        with full_precision(hidden):
            return self.unembed(self.features(hidden))  # type: ignore[no-any-return]

    def most_likely(self, hidden: Tensor) -> Tensor:
        """Hidden states (B, S, H) -> ids (B, S) of the largest logits, `CHUNK_LOGITS` of them at a time."""
        chunks = torch.split(hidden.flatten(0, 1), max(1, CHUNK_LOGITS // self.unembed.out_features))
        ids = [self(chunk).argmax(-1) for chunk in chunks]
        return torch.cat(ids).view(hidden.shape[:2])
