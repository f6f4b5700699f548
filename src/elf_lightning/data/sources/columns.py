"""Giving a data set's columns the names that the rest of the code knows."""

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
        text: name of the column with the text, or with the target of a pair; `outer.inner` for a nested one.
            Where it is missing, `input_ids` (with `condition_input_ids`) is taken: rows already tokenised.
        condition: name of the column with the condition; None for unconditional text.
        origin: the data set's name, for the error.

    Raises:
        UserError: if a column is missing.
    """
    wanted = _wanted(text, condition)
    if any("." in name for name in wanted):
        dataset = dataset.flatten()
    present = dataset.column_names
    if text not in present and IDS in present:
        return dataset.select_columns([name for name in (CONDITION_IDS, IDS) if name in present])
    if missing := [name for name in wanted if name not in present]:
        raise UserError(
            f"source '{origin}' has no column '{missing[0]}'; it has {', '.join(sorted(present))}: "
            "set text_column and condition_column"
        )
    dataset = dataset.select_columns(list(wanted))
    return dataset.rename_columns({old: new for old, new in wanted.items() if old != new})


def pick_streamed_columns(
    dataset: IterableDataset, text: str, condition: str | None, origin: str
) -> IterableDataset:
    """The same for a stream; rows already tokenised are found by their column `input_ids`.

    Raises:
        UserError: if a column is missing, or all rows are.
    """
    rows = first_rows(dataset, 1)
    if not rows:
        raise UserError(f"source '{origin}' has no rows")
    (first,) = rows
    if text not in first and IDS in first:
        return dataset.select_columns([name for name in (CONDITION_IDS, IDS) if name in first])
    wanted = _wanted(text, condition)
    for name in wanted:
        try:
            _nested(first, name)
        except KeyError as error:
            raise UserError(
                f"source '{origin}' has no column '{name}'; it has {', '.join(sorted(first))}: "
                "set text_column and condition_column"
            ) from error
    return dataset.map(_rename, fn_kwargs={"wanted": wanted}, remove_columns=list(first))


def first_rows(stream: IterableDataset, count: int) -> list[dict[str, Any]]:
    """The first rows of a stream, in a loader's worker too: plain iteration would see this worker's alone."""
    columns: dict[str, list[Any]] = next(stream.take(count).iter(count), {})
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _wanted(text: str, condition: str | None) -> dict[str, str]:
    return {text: TEXT} if condition is None else {text: TEXT, condition: CONDITION_TEXT}


def _rename(row: dict[str, Any], wanted: dict[str, str]) -> dict[str, Any]:
    return {new: _nested(row, old) for old, new in wanted.items()}


def _nested(row: dict[str, Any], name: str) -> Any:
    return reduce(lambda value, key: value[key], name.split("."), row)
