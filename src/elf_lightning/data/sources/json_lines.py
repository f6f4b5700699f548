"""JSON lines: texts, pairs, or token ids."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elf_lightning.data.sources.base import CONDITION_IDS, CONDITION_TEXT, IDS, TEXT, FileSource, generate
from elf_lightning.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

FORMS = (
    {"text": TEXT},
    {"input": CONDITION_TEXT, "output": TEXT},
    {"condition_input_ids": CONDITION_IDS, "input_ids": IDS},
    {"input_ids": IDS},
)
"""The keys a line may have, and the columns they become."""


class JsonLines(FileSource):
    """Files with one JSON object per line.

    A line is `{"text"}`, `{"input", "output"}` for text-to-text, or, already tokenised, `{"input_ids"}` or
    `{"condition_input_ids", "input_ids"}`. All lines have the keys of the first.

    Args:
        path: file, folder (searched for .jsonl files) or glob pattern, or a list of them.
        validation: validation files, given as `path`; None uses the last examples for validation.
        validation_fraction: fraction of examples for validation where `validation` is not given.
    """

    suffixes = (".jsonl",)

    def read(self, files: list[Path], scratch: Path) -> Dataset:  # noqa: D102
        from datasets import List, Value

        form = find_form(self._files()[0][0])
        features = {
            column: Value("string") if column in (TEXT, CONDITION_TEXT) else List(Value("int64"))
            for column in form.values()
        }
        return generate(read_objects, files, features, scratch, form=form)


def find_form(file: Path) -> dict[str, str]:
    """The form of the first line of a file.

    Raises:
        UserError: if the file is empty or its first line has no known form.
    """
    for _, values in _objects(str(file)):
        for form in FORMS:
            if form.keys() <= values.keys():
                return form
        raise UserError(
            f"source file '{file}' has the keys {', '.join(sorted(values)) or 'of an empty object'}; "
            "its lines need text, or input and output, or input_ids"
        )
    raise UserError(f"source file '{file}' has no line in it; fill it or leave it out")


def read_objects(files: list[str], form: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The objects of JSON-lines files, with keys renamed to columns.

    Raises:
        UserError: if a line is not a JSON object in UTF-8, or a key is missing or has the wrong type.
    """
    for name in files:
        for number, values in _objects(name):
            for key, column in form.items():
                if problem := _problem(values.get(key), column):
                    raise UserError(f"source file '{name}', line {number} has {problem} '{key}'")
            yield {column: values[key] for key, column in form.items()}


def _problem(value: Any, column: str) -> str | None:
    if value is None:
        return "no"
    if column in (TEXT, CONDITION_TEXT):
        return None if isinstance(value, str) else "something other than a string as"
    numbers = isinstance(value, list) and all(type(number) is int for number in value)
    return None if numbers else "something other than a list of whole numbers as"


def _objects(name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers, counted from 1, and their objects; blank lines are skipped."""
    with Path(name).open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            place = f"source file '{name}', line {number}"
            try:
                values = json.loads(line)
            except ValueError as error:  # not JSON, or not UTF-8
                raise UserError(f"{place} is not JSON in UTF-8: {error}") from error
            if not isinstance(values, dict):
                raise UserError(f"{place} is not a JSON object")
            yield number, values
