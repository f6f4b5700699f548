"""The table of scores in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from elf_lightning.reporting.scores import COLUMNS, Scores

if TYPE_CHECKING:
    from rich.console import Group


def score_table(rows: Sequence[Scores], judge: str | None, notes: Mapping[str, str]) -> Group:
    """All rows under one heading that names the judge, with what a reader must know below.

    Args:
        rows: with the same metrics.
        judge: who judged, if anybody did.
        notes: such as the signatures of BLEU, by name.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(title=None if judge is None else f"judge: {judge}", title_justify="left")
    table.add_column("texts")
    table.add_column("sets x texts", justify="right")
    shown = [name for name in COLUMNS if name in rows[0].metrics]
    for name in shown:
        table.add_column(COLUMNS[name].title, justify="right")
    for row in rows:
        cells = [COLUMNS[name].show(row.metrics[name]) for name in shown]
        style = "" if row.kind in ("sampled", "other") else "dim"
        table.add_row(row.name, f"{row.num_sets} x {row.num_samples}", *cells, style=style)
    return Group(table, *(Text(f"{name}: {note}", "dim") for name, note in notes.items()))
