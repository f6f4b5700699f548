"""Which conditions are hidden from their targets in training, for classifier-free guidance."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from elf_lightning.data.examples import Example
from elf_lightning.errors import UserError
from elf_lightning.flow import seeded_generator


@dataclass(frozen=True)
class LabelDrop:
    """A coin for each example and epoch.

    Args:
        probability: how often a condition is hidden.
        seed: of the coins.

    Raises:
        UserError: if the probability is outside 0 to 1.
    """

    probability: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise UserError(f"data.label_drop_probability {self.probability} must lie between 0 and 1")

    def __call__(self, example: Example, epoch: int) -> Example:
        """The example, with its condition hidden in this epoch or not."""
        if not self.probability:
            return example
        generator = seeded_generator("label drop", self.seed, epoch, example.index)
        return replace(example, label_drop=bool(torch.rand((), generator=generator) < self.probability))
