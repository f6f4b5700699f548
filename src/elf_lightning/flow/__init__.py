"""Latents <-> noise: the path between them, the times along it, and where random numbers come from."""

from elf_lightning.flow.path import RectifiedPath, per_row
from elf_lightning.flow.seeding import seeded_generator
from elf_lightning.flow.times import GuidanceScale, LogitNormal

__all__ = ["GuidanceScale", "LogitNormal", "RectifiedPath", "per_row", "seeded_generator"]
