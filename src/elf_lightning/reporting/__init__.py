"""Numbers and texts -> pages: plain data in, HTML out."""

from elf_lightning.reporting.trajectory import TextPath, settled_steps, trajectory_page

__all__ = ["TextPath", "settled_steps", "trajectory_page"]
