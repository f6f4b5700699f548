"""Prediction -> loss: the random draws of a step, and the losses as a pure function of them."""

from elf_lightning.objectives.draws import Draws, StepKey
from elf_lightning.objectives.elf import ELFObjective
from elf_lightning.objectives.losses import Losses

__all__ = ["Draws", "ELFObjective", "Losses", "StepKey"]
