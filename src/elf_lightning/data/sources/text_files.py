"""Plain text: .txt files and folders of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from elf_lightning.data.sources.base import TEXT, Source, file_stamps, find_files, with_validation
from elf_lightning.data.sources.generated import dataset_of
from elf_lightning.errors import UserError

if TYPE_CHECKING:
    from datasets import DatasetDict

Unit = Literal["file", "line", "block"]


class TextFiles(Source):
    """UTF-8 text files.

    Args:
        path: file, folder (searched for .txt files) or pattern, or several of them.
        document: what counts as one document: a whole file, a line, or a block between blank lines.
        validation: files held out, as `path`; None holds out the last documents.
        validation_fraction: share of documents held out where `validation` is not given.

    Raises:
        UserError: for another `document`.
    """

    def __init__(
        self,
        path: str | list[str],
        document: Unit = "file",
        validation: str | list[str] | None = None,
        validation_fraction: float = 0.05,
    ) -> None:
        if document not in get_args(Unit):
            raise UserError(f"source document '{document}': choose {', '.join(get_args(Unit))}")
        self.path = path
        self.document: Unit = document
        self.validation = validation
        self.validation_fraction = validation_fraction

    def load(self, scratch: Path) -> DatasetDict:  # noqa: D102
        from datasets import Value

        sets = [
            dataset_of(read_documents, files, {TEXT: Value("string")}, scratch, document=self.document)
            for files in self._files()
        ]
        return with_validation(sets[0], sets[1] if len(sets) > 1 else None, self.validation_fraction)

    def identity(self) -> dict[str, Any]:  # noqa: D102
        return {
            "class": "TextFiles",
            "files": [file_stamps(files) for files in self._files()],
            "document": self.document,
            "validation_fraction": self.validation_fraction,
        }

    def _files(self) -> list[list[Path]]:
        given = [self.path] if self.validation is None else [self.path, self.validation]
        return [find_files(path, (".txt",)) for path in given]


def read_documents(files: list[str], document: Unit) -> Iterator[dict[str, str]]:
    """The documents of text files, without empty ones.

    Raises:
        UserError: if a file is empty or not UTF-8.
    """
    for name in files:
        empty = True
        try:
            with Path(name).open(encoding="utf-8-sig") as file:
                for text in _split(file, document):
                    empty = False
                    yield {TEXT: text}
        except UnicodeDecodeError as error:
            raise UserError(
                f"source file '{name}' is not UTF-8 (byte {error.object[error.start]:#04x}); convert it, "
                "for instance with `iconv -t UTF-8`"
            ) from error
        if empty:
            raise UserError(f"source file '{name}' has no text in it; fill it or leave it out")


def _split(lines: Iterator[str], document: Unit) -> Iterator[str]:
    if document == "line":
        texts = iter(lines)
    elif document == "block":
        texts = (
            "".join(block) for blank, block in groupby(lines, lambda line: not line.strip()) if not blank
        )
    else:
        texts = iter(["".join(lines)])
    return (text.strip() for text in texts if text.strip())
