"""The table of scores in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from elf_lightning.reporting.scores import Scores, measured_numbers

if TYPE_CHECKING:
    from rich.console import Group


def score_table(rows: Sequence[Scores], scoring_model: str | None, notes: Mapping[str, str]) -> Group:
    """All rows under a heading with the scoring model, and notes below.

    Args:
        rows: one for each kind of text.
        scoring_model: name of the scoring model, if any.
        notes: such as the signatures of BLEU, by name.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    title = None if scoring_model is None else f"scoring model: {scoring_model}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("texts of")
    numbers = measured_numbers(rows)
    for number in numbers:
        heading = number.title.replace(" %", "\n%").replace(", ", "\n")
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("texts", justify="right", no_wrap=True)
    for row in rows:
        # An interval under its number: side by side, five of them would not fit a terminal.
        cells = ["\n±".join(row[number.name].parts(number)) for number in numbers]
        style = "" if row.kind in ("sampled", "other") else "dim"
        table.add_row(row.name, *cells, f"{row.num_sets}x{row.num_samples}", style=style)
    return Group(table, *(Text(f"{name}: {note}", "dim") for name, note in notes.items()))
