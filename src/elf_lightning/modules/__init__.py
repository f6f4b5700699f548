"""LightningModules: thin glue between the rooms below and the Trainer."""

from elf_lightning.modules.elf import ELFModule

__all__ = ["ELFModule"]
