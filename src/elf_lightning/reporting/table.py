"""The table of scores in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from elf_lightning.reporting.scores import COLUMNS, Scores

if TYPE_CHECKING:
    from rich.console import Group


def score_table(rows: Sequence[Scores], scoring_model: str | None, notes: Mapping[str, str]) -> Group:
    """All rows under one heading that names the scoring model, with what a reader must know below.

    Args:
        rows: with the same metrics.
        scoring_model: who scored, if anybody did.
        notes: such as the signatures of BLEU, by name.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    title = None if scoring_model is None else f"scoring_model: {scoring_model}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("texts of")
    shown = [name for name in COLUMNS if name in rows[0].metrics]
    for name in shown:
        heading = COLUMNS[name].title.replace(" %", "\n%").replace(", ", "\n")
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("texts", justify="right", no_wrap=True)
    for row in rows:
        # An interval under its number: beside it, five of them would need twice the width of a terminal.
        cells = ["\n±".join(COLUMNS[name].parts(row.metrics[name])) for name in shown]
        style = "" if row.kind in ("sampled", "other") else "dim"
        table.add_row(row.name, *cells, f"{row.num_sets}x{row.num_samples}", style=style)
    return Group(table, *(Text(f"{name}: {note}", "dim") for name, note in notes.items()))
