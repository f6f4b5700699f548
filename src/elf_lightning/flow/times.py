"""Distributions of times, mixing weights and guidance scales."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from elf_lightning.errors import UserError


@dataclass(frozen=True)
class LogitNormal:
    """`sigmoid(N(mean, std))`, a distribution on (0, 1) (arXiv 2605.10938, section 3).

    Attributes:
        mean: mean of the normal; negative values favour noise.
        std: standard deviation of the normal.
    """

    mean: float = -1.5
    std: float = 0.8

    def __post_init__(self) -> None:
        """Refuse impossible settings.

        Raises:
            UserError: if `std` is 0 or less.
        """
        if self.std <= 0:
            raise UserError(f"the std of a logit-normal distribution is {self.std}; it must be positive")

    def sample(self, *size: int, generator: torch.Generator) -> Tensor:
        """Draws in (0, 1) of shape `size`, float32, on the generator's device."""
        normal = torch.randn(size, generator=generator, device=generator.device)
        return torch.sigmoid(self.mean + self.std * normal)


@dataclass(frozen=True)
class GuidanceScale:
    """Guidance scales `w`; `1 + w` is log-uniform between `1 + minimum` and `1 + maximum`.

    Attributes:
        minimum: smallest scale, above 0.
        maximum: largest scale.
    """

    minimum: float = 0.5
    maximum: float = 5.0

    def __post_init__(self) -> None:
        """Refuse impossible settings.

        Raises:
            UserError: unless `0 < minimum <= maximum`.
        """
        if not 0 < self.minimum <= self.maximum:
            raise UserError(
                f"guidance scales from {self.minimum} to {self.maximum} are not a valid range; "
                "choose 0 < minimum <= maximum"
            )

    def sample(self, *size: int, generator: torch.Generator) -> Tensor:
        """Scales of shape `size`, float32, on the generator's device."""
        u = torch.rand(size, generator=generator, device=generator.device)
        return (1 + self.minimum) * ((1 + self.maximum) / (1 + self.minimum)) ** u - 1
