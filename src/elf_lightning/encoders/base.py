"""What every frozen encoder offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

from torch import Tensor, nn


class Encoder(nn.Module, ABC):
    """A frozen map from token ids to latents, (B, S) -> (B, S, C).

    Constructing one reads sizes only; `load` (called by the first `forward` at the latest) reads weights.
    An encoder stays in eval mode whatever is asked of it, and has no parameter that wants a gradient.

    Attributes:
        name_or_path: what its tokenizer is loaded from: a folder, a Hub id or `package:NAME/FOLDER`.
        latent_size: C.
        max_length: the longest row it can encode, None where there is no limit.
    """

    name_or_path: str
    latent_size: int
    max_length: int | None

    def __init__(self) -> None:
        super().__init__()
        self._loaded = False

    @abstractmethod
    def encode(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """Hidden states (B, S, C) of ids (B, S) under a boolean mask (B, 1, S, S)."""

    @abstractmethod
    def load_weights(self) -> None:
        """Make the modules that `encode` needs."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Plain values that decide the latents: caches are keyed by them, checkpoints keep them."""

    def load(self) -> Self:
        """Read the weights, once, and freeze them; returns the encoder.

        Raises:
            UserError: if they cannot be read.
        """
        if not self._loaded:
            self.load_weights()
            self.requires_grad_(False)
            self._loaded = True
            self.eval()
        return self

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode: a frozen encoder has no training mode."""
        return super().train(False)

    def forward(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """Latents (B, S, C) in float32, not yet normalised.

        Args:
            input_ids: (B, S) int64, the tokenizer's ids.
            mask: (B, S, S) or (B, 1, S, S) boolean, True where the row's position may see the column's.
        """
        self.load()
        return self.encode(input_ids, mask if mask.dim() == 4 else mask[:, None]).float()
