"""Noise that belongs to a sequence, whatever batch the sequence is in."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from elf_lightning.flow import seeded_generator


def sequence_noise(
    seed: int, index: Tensor, size: torch.Size, scale: float, device: torch.device
) -> Callable[[], Tensor]:
    """A source of noise (B, S, C), new at each call; each sequence has a stream of its own.

    Args:
        seed: of the whole request.
        index: (B,) the sequences' numbers in the request.
        size: (S, C) of a sequence.
        scale: standard deviation.
        device: where to draw.
    """
    generators = [seeded_generator("noise", seed, number, device=device) for number in index.tolist()]

    def draw() -> Tensor:
        noise = torch.empty((len(generators), *size), device=device)
        for sequence, generator in zip(noise, generators, strict=True):
            sequence.normal_(std=scale, generator=generator)
        return noise

    return draw
