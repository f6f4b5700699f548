"""Text files given on the command line: one text per line, or JSON lines."""

from __future__ import annotations

import json
from pathlib import Path

from elf_lightning.errors import UserError


def read_lines(path: Path, option: str = "") -> list[str]:
    """The lines of a UTF-8 text file, with or without a byte order mark.

    Args:
        path: the file.
        option: the option it was given with, for error messages.

    Raises:
        UserError: if it cannot be read, is not UTF-8, or is empty.
    """
    name = f"{option} {path}".strip()
    try:
        text = path.read_text(encoding="utf-8-sig").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(f"{name} cannot be read: {reason}; give a file with one text per line") from error
    if not text:
        raise UserError(f"{name} is empty; give a file with one text per line")
    return text.split("\n")


def read_texts(path: Path, field: str) -> list[tuple[str, str, str]]:
    """The texts of a file as `(setting, seed, text)`; setting and seed are empty unless the file has them.

    Args:
        path: a file with one text per line, or, if its name ends in `.jsonl`, one JSON object per line.
        field: key of the text in these objects; setting and seed are under `setting` and `seed`.

    Raises:
        UserError: if the file cannot be read, or a line has no text.
    """
    lines = read_lines(path)
    if path.suffix != ".jsonl":
        return [("", "", line) for line in lines]
    texts = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            record = None
        if not isinstance(record, dict) or not isinstance(record.get(field), str):
            raise UserError(
                f"{path}: line {number} is not a JSON object with a text under '{field}'; see --field"
            )
        texts.append((str(record.get("setting", "")), str(record.get("seed", "")), record[field]))
    return texts
