"""Latents <-> noise: the path between them and the times along it."""

from elf_lightning.flow.path import RectifiedPath
from elf_lightning.flow.times import GuidanceScale, LogitNormal

__all__ = ["GuidanceScale", "LogitNormal", "RectifiedPath"]
