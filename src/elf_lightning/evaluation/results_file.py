"""A file of results that survives interruptions."""

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
    """A JSON Lines file that is readable at any moment; an interruption loses at most the last line.

    Attributes:
        path: the file.
    """

    path: Path

    def read(self) -> list[Row]:
        """All complete rows; an incomplete last line is ignored.

        Raises:
            UserError: if another line is not a JSON object.
        """
        if not self.path.exists():
            return []
        # As bytes, since an interruption may have split a multi-byte character.
        *lines, _unfinished = self.path.read_bytes().split(b"\n")
        return [self._row(number, line) for number, line in enumerate(lines, start=1)]

    def replace(self, rows: Iterable[Row]) -> None:
        """Replace the contents atomically."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".incomplete")
        unfinished.write_text("".join(map(_line, rows)), encoding="utf-8")
        unfinished.replace(self.path)

    def append(self, rows: Iterable[Row]) -> None:
        """Append rows."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(map(_line, rows)))

    def _row(self, number: int, line: bytes) -> Row:
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError):
            row = None
        if not isinstance(row, dict):
            raise UserError(f"line {number} of {self.path} is not a JSON object; move it away to start again")
        return row


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
