"""Noise that belongs to a row, whatever batch the row is in."""

from __future__ import annotations

import torch
from torch import Tensor

from elf_lightning.flow import seeded_generator


class RowNoise:
    """One stream of noise for each row, keyed by the seed and the row's number.

    Args:
        seed: of the whole request.
        index: (B,) the rows' numbers in the request.
        size: (S, C) of a row.
        scale: standard deviation.
        device: where to draw.
    """

    def __init__(
        self, seed: int, index: Tensor, size: torch.Size, scale: float, device: torch.device
    ) -> None:
        self.size = size
        self.scale = scale
        self.device = device
        self.generators = [seeded_generator("noise", seed, row, device=device) for row in index.tolist()]

    def __call__(self) -> Tensor:
        """The rows' next noise, (B, S, C)."""
        noise = torch.empty((len(self.generators), *self.size), device=self.device)
        for row, generator in zip(noise, self.generators, strict=True):
            row.normal_(std=self.scale, generator=generator)
        return noise
