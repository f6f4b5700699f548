"""A file of results that an interruption cannot spoil."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elf_lightning.errors import UserError

Row = dict[str, Any]


@dataclass(frozen=True)
class ResultsFile:
    """A JSON object a line; rows are added at the end, and what is there stays readable at every moment.

    Attributes:
        path: the file.
    """

    path: Path

    def read(self) -> list[Row]:
        """The complete rows; a last line that an interruption cut off is left out.

        Raises:
            UserError: if another line is no row.
        """
        if not self.path.exists():
            return []
        # As bytes, since an interruption may also have cut a letter in two.
        *lines, _unfinished = self.path.read_bytes().split(b"\n")
        return [self._row(number, line) for number, line in enumerate(lines, start=1)]

    def replace(self, rows: Iterable[Row]) -> None:
        """Have these rows alone, from one moment to the next."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".incomplete")
        unfinished.write_text("".join(map(_line, rows)), encoding="utf-8")
        unfinished.replace(self.path)

    def append(self, rows: Iterable[Row]) -> None:
        """Add rows."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(map(_line, rows)))

    def _row(self, number: int, line: bytes) -> Row:
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError):
            row = None
        if not isinstance(row, dict):
            raise UserError(
                f"line {number} of {self.path} is no JSON object; move the file away to begin anew"
            )
        return row


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
