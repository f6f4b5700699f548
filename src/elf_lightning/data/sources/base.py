"""What every source offers, and what several of them share."""

import logging
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elf_lightning.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict, IterableDataset

logger = logging.getLogger(__name__)

TEXT, CONDITION_TEXT = "text", "condition_text"
IDS, CONDITION_IDS = "input_ids", "condition_input_ids"
BYTES_AT_ONCE = 4_000_000  # size of a batch of examples, about, while they are prepared


class Source(ABC):
    """Documents, or pairs of condition and target, in the splits `train` and `validation`.

    The columns are `text`, with `condition_text` for pairs. Tokenised data has `input_ids`, with
    `condition_input_ids` for pairs.
    """

    streamed_examples: int | None = None
    """Sequences that count as one epoch of a streamed source; None for a source that is prepared on disk."""

    @abstractmethod
    def load(self, scratch: Path) -> "DatasetDict":
        """The splits to prepare; `validation` alone for a streamed source.

        Temporary files go to the folder `scratch`. Missing or empty data, or a column that it lacks, is a
        `UserError`.
        """

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Plain values that change when the content does; they are part of the cache key."""

    def stream(self, epoch: int, seed: int) -> "IterableDataset":
        """The training examples of a streamed source, in this epoch's order."""
        raise NotImplementedError(f"{type(self).__name__} is prepared on disk, not streamed")


def both_splits(train: "Dataset", fraction: float, validation: "Dataset | None" = None) -> "DatasetDict":
    """Training and validation set; by default the last `fraction` of `train`, at least one example."""
    from datasets import DatasetDict

    if validation is not None:
        return DatasetDict(train=train, validation=validation)
    count = len(train)
    cut = count - max(1, round(count * fraction))
    if not 0 < fraction < 1 or cut < 1:
        raise UserError(
            f"source validation_fraction {fraction}: {count} document(s) cannot be split into training and "
            "validation; give more documents (TextFiles: document: line or block), separate validation "
            "files, or another fraction"
        )
    if (held := (count - cut) / count) > 2 * fraction:
        logger.warning(
            "source validation_fraction %s: of %d documents, %d (%.0f%%) is used for validation; give "
            "TextFiles smaller documents (document: block or line), or separate validation files",
            *(fraction, count, count - cut, 100 * held),
        )
    return DatasetDict(train=train.select(range(cut)), validation=train.select(range(cut, count)))


def examples_at_once(mean_bytes: float) -> int:
    """How many examples of this mean size to hold in memory: at most some megabytes."""
    return max(1, min(1000, int(BYTES_AT_ONCE // max(1.0, mean_bytes))))


def file_stamps(files: list[Path]) -> list[list[Any]]:
    """Name, size in bytes and modification time of files, by which a change of content is recognised."""
    stamps = ((file, file.stat()) for file in files)
    return [[str(file.resolve()), status.st_size, status.st_mtime_ns] for file, status in stamps]
