"""Weights in and out: the official format, the Hub format, Lightning checkpoints."""

from elf_lightning.checkpoints.bundle import ModelBundle
from elf_lightning.checkpoints.hub import model_card, save_hub
from elf_lightning.checkpoints.load import load_model, save_official
from elf_lightning.checkpoints.locate import newest_checkpoint
from elf_lightning.checkpoints.official import from_official, to_official

__all__ = [
    "ModelBundle",
    "from_official",
    "load_model",
    "model_card",
    "newest_checkpoint",
    "save_hub",
    "save_official",
    "to_official",
]
