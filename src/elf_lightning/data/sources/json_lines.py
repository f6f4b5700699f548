"""JSON lines: texts, pairs, or rows of ids."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elf_lightning.data.sources.base import (
    CONDITION_IDS,
    CONDITION_TEXT,
    IDS,
    TEXT,
    Source,
    file_stamps,
    find_files,
    with_validation,
)
from elf_lightning.data.sources.generated import dataset_of
from elf_lightning.errors import UserError

if TYPE_CHECKING:
    from datasets import DatasetDict

FORMS = (
    {"text": TEXT},
    {"input": CONDITION_TEXT, "output": TEXT},
    {"condition_input_ids": CONDITION_IDS, "input_ids": IDS},
    {"input_ids": IDS},
)
"""The keys a line may have, and the columns they become."""


class JsonLines(Source):
    """Files with one JSON object a line.

    Lines are `{"text"}`, `{"input", "output"}` for text-to-text, or already tokenised, `{"input_ids"}` or
    `{"condition_input_ids", "input_ids"}`; all lines have the keys of the first.

    Args:
        path: file, folder (searched for .jsonl files) or pattern, or several of them.
        validation: files held out, as `path`; None holds out the last examples.
        validation_fraction: share of examples held out where `validation` is not given.
    """

    def __init__(
        self,
        path: str | list[str],
        validation: str | list[str] | None = None,
        validation_fraction: float = 0.05,
    ) -> None:
        self.path = path
        self.validation = validation
        self.validation_fraction = validation_fraction

    def load(self, scratch: Path) -> DatasetDict:  # noqa: D102
        from datasets import List, Value

        form = find_form(self._files()[0][0])
        kinds = {TEXT: Value("string"), CONDITION_TEXT: Value("string")}
        features = {column: kinds.get(column, List(Value("int64"))) for column in form.values()}
        sets = [dataset_of(read_rows, files, features, scratch, form=form) for files in self._files()]
        return with_validation(sets[0], sets[1] if len(sets) > 1 else None, self.validation_fraction)

    def identity(self) -> dict[str, Any]:  # noqa: D102
        return {
            "class": "JsonLines",
            "files": [file_stamps(files) for files in self._files()],
            "validation_fraction": self.validation_fraction,
        }

    def _files(self) -> list[list[Path]]:
        given = [self.path] if self.validation is None else [self.path, self.validation]
        return [find_files(path, (".jsonl",)) for path in given]


def find_form(file: Path) -> dict[str, str]:
    """Which of the forms the first line of a file has.

    Raises:
        UserError: if the file is empty or its first line has none of them.
    """
    for _, row in _objects(str(file)):
        for form in FORMS:
            if form.keys() <= row.keys():
                return form
        raise UserError(
            f"source file '{file}' has the keys {', '.join(sorted(row)) or 'of an empty object'}; "
            "its lines need text, or input and output, or input_ids"
        )
    raise UserError(f"source file '{file}' has no line in it; fill it or leave it out")


def read_rows(files: list[str], form: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The rows of JSON-lines files under their columns' names.

    Raises:
        UserError: if a line is no JSON object, lacks a key, holds something else there, or is not UTF-8.
    """
    for name in files:
        for number, row in _objects(name):
            for key, column in form.items():
                if problem := _problem(row.get(key), column):
                    raise UserError(f"source file '{name}', line {number} has {problem} '{key}'")
            yield {column: row[key] for key, column in form.items()}


def _problem(value: Any, column: str) -> str | None:
    if value is None:
        return "no"
    if column in (TEXT, CONDITION_TEXT):
        return None if isinstance(value, str) else "something other than a string as"
    numbers = isinstance(value, list) and all(type(number) is int for number in value)
    return None if numbers else "something other than a list of whole numbers as"


def _objects(name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    with Path(name).open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:  # no JSON, or not UTF-8
                raise UserError(
                    f"source file '{name}', line {number} is not JSON in UTF-8: {error}"
                ) from error
            if not isinstance(row, dict):
                raise UserError(f"source file '{name}', line {number} is no JSON object")
            yield number, row
