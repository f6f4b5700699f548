"""Results that survive interruptions, and the identity of the model that they belong to."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from elf_lightning.errors import UserError
from elf_lightning.whole_file import json_lines, write_whole, writing_explained

Row = dict[str, Any]


@dataclass(frozen=True)
class ResultsFile:
    """A JSON Lines file that is readable at any moment; an interruption loses at most the last line."""

    path: Path

    def read(self) -> list[Row]:
        """All complete rows; an incomplete last line is ignored, any other damage a `UserError`."""
        if not self.path.exists():
            return []
        # As bytes, since an interruption may have split a multi-byte character.
        *lines, _unfinished = self.path.read_bytes().split(b"\n")
        rows = []
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                where = f"line {number} of {self.path}"
                raise UserError(f"{where} is not a JSON object; move it away to start again")
            rows.append(row)
        return rows

    def replace(self, rows: Iterable[Row]) -> None:
        """Replace the contents at once."""
        write_whole(self.path, json_lines(rows))

    def append(self, rows: Iterable[Row]) -> None:
        """Append rows."""
        with writing_explained(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json_lines(rows))


def model_identity(weights: Mapping[str, Tensor], description: Mapping[str, Any]) -> str:
    """A short hash of all weights and the description, in plain values."""
    digest = hashlib.blake2b(json.dumps(description, sort_keys=True).encode(), digest_size=8)
    for name, weight in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
