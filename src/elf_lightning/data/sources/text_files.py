"""Plain text files."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from elf_lightning.data.sources.base import TEXT, FileSource, generate
from elf_lightning.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

Unit = Literal["file", "line", "block"]


class TextFiles(FileSource):
    """UTF-8 text files.

    Args:
        path: file, folder (searched for .txt files) or glob pattern, or a list of them.
        document: what counts as one document: a whole file, a line, or a block between blank lines.
        validation: validation files, given as `path`; None uses the last documents for validation.
        validation_fraction: fraction of documents for validation where `validation` is not given.

    Raises:
        UserError: for an unknown `document`.
    """

    suffixes = (".txt",)

    def __init__(
        self,
        path: str | list[str],
        document: Unit = "file",
        validation: str | list[str] | None = None,
        validation_fraction: float = 0.05,
    ) -> None:
        if document not in get_args(Unit):
            raise UserError(f"source document '{document}': choose {', '.join(get_args(Unit))}")
        super().__init__(path, validation, validation_fraction)
        self.document: Unit = document

    def read(self, files: list[Path], scratch: Path) -> Dataset:  # noqa: D102
        from datasets import Value

        return generate(read_documents, files, {TEXT: Value("string")}, scratch, document=self.document)


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
        blocks = groupby(lines, lambda line: not line.strip())
        texts = ("".join(block) for blank, block in blocks if not blank)
    else:
        texts = iter(["".join(lines)])
    return (text.strip() for text in texts if text.strip())
