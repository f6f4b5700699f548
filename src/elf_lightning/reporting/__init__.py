"""Numbers and texts -> pages: plain data in, HTML out."""

from elf_lightning.reporting.scores import COLUMNS, Column, Estimate, Kind, Scores, pareto_optimal
from elf_lightning.reporting.table import score_table
from elf_lightning.reporting.trajectory import TextPath, settled_steps, trajectory_page

__all__ = [
    "COLUMNS",
    "Column",
    "Estimate",
    "Kind",
    "Scores",
    "TextPath",
    "pareto_optimal",
    "score_table",
    "settled_steps",
    "trajectory_page",
]
