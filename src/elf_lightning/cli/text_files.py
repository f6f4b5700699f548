"""Files of texts that a user names on the command line: a text on each line, or JSON lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from elf_lightning.errors import UserError


def read_lines(path: Path, option: str = "") -> list[str]:
    """The lines of a text file in UTF-8, with or without a byte order mark.

    Args:
        path: the file.
        option: the option that named it, for errors.

    Raises:
        UserError: if it cannot be read, is not UTF-8, or is empty.
    """
    name = f"{option} {path}".strip()
    try:
        text = path.read_text(encoding="utf-8-sig").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise UserError(f"{name} cannot be read: {reason}") from error
    if not text:
        raise UserError(f"{name} is empty; give a file with a text on each line")
    return text.split("\n")


def read_texts(path: Path, field: str) -> list[tuple[str, str, str]]:
    """The texts of a file, each with the setting and the seed it was sampled with, if the file says.

    Args:
        path: a file with a text on each line; one called `*.jsonl` holds a JSON object on each.
        field: the key of the text in these objects; those of setting and seed are `setting` and `seed`.

    Raises:
        UserError: if the file cannot be read, or a line holds no text.
    """
    lines = read_lines(path)
    if path.suffix != ".jsonl":
        return [("", "", line) for line in lines]
    texts = []
    for number, line in enumerate(lines, start=1):
        row = _object(line)
        if not isinstance(row.get(field), str):
            raise UserError(
                f"{path}: line {number} is not a JSON object with a text under '{field}'; see --field"
            )
        texts.append((str(row.get("setting", "")), str(row.get("seed", "")), row[field]))
    return texts


def _object(line: str) -> dict[str, Any]:
    """The JSON object on a line; an empty one if there is none."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return row if isinstance(row, dict) else {}
