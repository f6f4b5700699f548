"""Where text comes from: one small class a kind, chosen in YAML by its name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elf_lightning.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

TEXT, CONDITION_TEXT = "text", "condition_text"
IDS, CONDITION_IDS = "input_ids", "condition_input_ids"


class Source(ABC):
    """Documents, or pairs of condition and target, in splits `train` and `validation`.

    Columns are `text`, with `condition_text` for pairs; or `input_ids`, with `condition_input_ids`, for rows
    that are tokenised already.
    """

    @abstractmethod
    def load(self) -> DatasetDict:
        """The splits.

        Raises:
            UserError: if the data is missing, empty or has not the columns asked for.
        """

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Plain values that change when the content does: prepared rows are kept under them."""


def hold_out(dataset: Dataset, fraction: float) -> DatasetDict:
    """Split off the last `fraction` of the rows, at least one, for validation."""
    from datasets import DatasetDict

    held_out = max(1, round(len(dataset) * fraction))
    if held_out >= len(dataset):
        raise UserError(
            f"held_out_fraction {fraction}: {len(dataset)} document(s) cannot be split into training and "
            "validation; give more documents or a validation set"
        )
    cut = len(dataset) - held_out
    return DatasetDict(train=dataset.select(range(cut)), validation=dataset.select(range(cut, len(dataset))))


def file_stamp(path: Path) -> list[Any]:
    """Name, size and modification time of a file: what its content is recognised by."""
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]
