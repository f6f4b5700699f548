"""Renaming a data set's columns to the names that preparation expects."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

from elf_lightning.data.sources.base import CONDITION_IDS, CONDITION_TEXT, IDS, TEXT
from elf_lightning.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset


def pick_columns(dataset: Dataset, text: str, condition: str | None, origin: str) -> Dataset:
    """Keep and rename the columns to train on.

    Args:
        dataset: a data set on disk or in memory.
        text: column of the text, or of the target of a pair; `outer.inner` for a nested one. If it is
            missing and there is a column `input_ids`, the data is already tokenised.
        condition: column of the condition; None for unconditional text.
        origin: the data set's name, for error messages.

    Raises:
        UserError: if a column is missing.
    """
    wanted = _wanted(text, condition)
    if any("." in name for name in wanted):
        dataset = dataset.flatten()
    present = dataset.column_names
    if text not in present and IDS in present:
        return dataset.select_columns(_tokenised(present))
    if missing := [name for name in wanted if name not in present]:
        raise _no_column(missing[0], present, origin)
    dataset = dataset.select_columns(list(wanted))
    return dataset.rename_columns({old: new for old, new in wanted.items() if old != new})


def pick_streamed_columns(
    dataset: IterableDataset, text: str, condition: str | None, origin: str
) -> IterableDataset:
    """The same for a stream, whose columns are those of its first example.

    Raises:
        UserError: if a column is missing, or the stream is empty.
    """
    examples = first_examples(dataset, 1)
    if not examples:
        raise UserError(f"source '{origin}' is empty; choose another split")
    (first,) = examples
    if text not in first and IDS in first:
        return dataset.select_columns(_tokenised(first))
    wanted = _wanted(text, condition)
    for name in wanted:
        try:
            _nested(first, name)
        except KeyError as error:
            raise _no_column(name, first, origin) from error
    return dataset.map(_rename, fn_kwargs={"wanted": wanted}, remove_columns=list(first))


def first_examples(stream: IterableDataset, count: int) -> list[dict[str, Any]]:
    """The first examples of a stream, also in a loader's worker, where plain iteration sees a part of it."""
    columns: dict[str, list[Any]] = next(stream.take(count).iter(count), {})
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _wanted(text: str, condition: str | None) -> dict[str, str]:
    return {text: TEXT} if condition is None else {text: TEXT, condition: CONDITION_TEXT}


def _tokenised(present: Any) -> list[str]:
    return [name for name in (CONDITION_IDS, IDS) if name in present]


def _no_column(name: str, present: Any, origin: str) -> UserError:
    return UserError(
        f"source '{origin}' has no column '{name}'; it has {', '.join(sorted(present))}: "
        "set text_column and condition_column"
    )


def _rename(example: dict[str, Any], wanted: dict[str, str]) -> dict[str, Any]:
    return {new: _nested(example, old) for old, new in wanted.items()}


def _nested(example: dict[str, Any], name: str) -> Any:
    return reduce(lambda value, key: value[key], name.split("."), example)
