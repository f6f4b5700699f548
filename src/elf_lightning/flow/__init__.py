"""Latents <-> noise: the path between them, the times along it and the streams of random numbers."""

from elf_lightning.flow.path import RectifiedPath
from elf_lightning.flow.seeding import seeded_generator
from elf_lightning.flow.times import GuidanceScale, LogitNormal

__all__ = ["GuidanceScale", "LogitNormal", "RectifiedPath", "seeded_generator"]
