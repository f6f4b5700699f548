"""The interface of frozen encoders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

from torch import Tensor, nn


class Encoder(nn.Module, ABC):
    """A frozen map from token ids to latents, (B, S) -> (B, S, C).

    The constructor reads only sizes; `load` reads weights, at the latest in the first `forward`. Encoders
    are always in eval mode, and their parameters do not require gradients.

    Attributes:
        name_or_path: source of its tokenizer: a folder, a Hub id or `package:NAME/FOLDER`.
        latent_size: C.
        max_length: maximum sequence length in tokens; None for no limit.
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
        """Create the modules that `encode` needs."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Plain values that determine the latents, for cache keys and checkpoints."""

    def load(self) -> Self:
        """Read and freeze the weights, once; returns the encoder.

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
        """Stay in eval mode."""
        return super().train(False)

    def forward(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """Latents (B, S, C) in float32, not yet normalised.

        Args:
            input_ids: (B, S) int64, tokenizer ids.
            mask: (B, S, S) or (B, 1, S, S) boolean, True where query position (row) attends to key (column).
        """
        self.load()
        return self.encode(input_ids, mask if mask.dim() == 4 else mask[:, None]).float()
