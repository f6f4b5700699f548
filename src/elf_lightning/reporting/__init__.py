"""Numbers and texts -> pages: plain data in, HTML out."""

from elf_lightning.reporting.curves import Curve, read_curves
from elf_lightning.reporting.report import Report, Specimen, report_page
from elf_lightning.reporting.scores import COLUMNS, Column, Estimate, Kind, Scores, pareto_optimal
from elf_lightning.reporting.table import score_table
from elf_lightning.reporting.trajectory import TextPath, settled_steps, shown_steps, trajectory_page
from elf_lightning.reporting.trajectory_picture import trajectory_picture
from elf_lightning.reporting.verdict import Finding, closest_to_real, verdict

__all__ = [
    "COLUMNS",
    "Column",
    "Curve",
    "Estimate",
    "Finding",
    "Kind",
    "Report",
    "Scores",
    "Specimen",
    "TextPath",
    "closest_to_real",
    "pareto_optimal",
    "read_curves",
    "report_page",
    "score_table",
    "settled_steps",
    "shown_steps",
    "trajectory_page",
    "trajectory_picture",
    "verdict",
]
