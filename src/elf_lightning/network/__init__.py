"""Noised latents -> prediction: the transformer and its parts."""

from elf_lightning.network.elf import ELFNetwork
from elf_lightning.network.precision import full_precision
from elf_lightning.network.shape import PRESETS, NetworkShape

__all__ = ["PRESETS", "ELFNetwork", "NetworkShape", "full_precision"]
