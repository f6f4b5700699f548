"""What every source offers, and what several of them need."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elf_lightning.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict, IterableDataset

TEXT, CONDITION_TEXT = "text", "condition_text"
IDS, CONDITION_IDS = "input_ids", "condition_input_ids"


class Source(ABC):
    """Documents, or pairs of condition and target, in the splits `train` and `validation`.

    Columns are `text`, with `condition_text` for pairs; or `input_ids`, with `condition_input_ids`, for rows
    that are tokenised already.
    """

    streamed_rows: int | None = None
    """Rows that an epoch of a streamed source counts as; None for a source that is prepared on disk."""

    @abstractmethod
    def load(self, scratch: Path) -> DatasetDict:
        """The splits to prepare; of a streamed source, `validation` alone.

        Args:
            scratch: a folder for temporary files, deleted when the rows are prepared.

        Raises:
            UserError: if the data is missing, empty or has not the columns asked for.
        """

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Plain values that change when the content does: prepared rows are kept under them."""

    def stream(self, epoch: int, seed: int) -> IterableDataset:
        """The training examples of a streamed source, in this epoch's order.

        Raises:
            NotImplementedError: for a source that is prepared on disk.
        """
        raise NotImplementedError(f"{type(self).__name__} is prepared on disk, not streamed")


def hold_out(dataset: Dataset, fraction: float) -> DatasetDict:
    """Split off the last `fraction` of the examples, at least one, for validation.

    Raises:
        UserError: if nothing would be left to train on.
    """
    from datasets import DatasetDict

    count = len(dataset)
    cut = count - max(1, round(count * fraction))
    if not 0 < fraction < 1 or cut < 1:
        raise UserError(
            f"source validation_fraction {fraction}: {count} document(s) cannot be split into training and "
            "validation; give more documents (TextFiles makes one of each line with document: line), a "
            "validation set of their own, or another fraction"
        )
    return DatasetDict(train=dataset.select(range(cut)), validation=dataset.select(range(cut, count)))


def with_validation(train: Dataset, validation: Dataset | None, validation_fraction: float) -> DatasetDict:
    """Both splits: the validation set given, else the last part of the training set."""
    from datasets import DatasetDict

    if validation is None:
        return hold_out(train, validation_fraction)
    return DatasetDict(train=train, validation=validation)


def find_files(paths: str | list[str], suffixes: tuple[str, ...]) -> list[Path]:
    """All files meant by files, folders (searched for these suffixes) and patterns, sorted.

    Raises:
        UserError: if one of them is not there, or a folder or pattern gives nothing.
    """
    found: list[Path] = []
    for path in [paths] if isinstance(paths, str) else paths:
        place = Path(path).expanduser()
        if place.is_file():
            found.append(place)
            continue
        if place.is_dir():
            files = (file for suffix in suffixes for file in place.rglob(f"*{suffix}"))
        else:
            files = Path(place.anchor).glob(str(place.relative_to(place.anchor)))
        matches = sorted(file for file in files if file.is_file())
        if not matches:
            raise UserError(
                f"source path '{path}': there is no such file, and no folder with "
                f"{' or '.join(suffixes)} files in it"
            )
        found += matches
    return found


def file_stamps(files: list[Path]) -> list[list[Any]]:
    """Name, size and modification time of files: what their content is recognised by."""
    stamps = ((file, file.stat()) for file in files)
    return [[str(file.resolve()), status.st_size, status.st_mtime_ns] for file, status in stamps]
