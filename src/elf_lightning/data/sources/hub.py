"""Data sets from the Hugging Face Hub, prepared on disk or streamed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from elf_lightning.data.sources.base import Source, file_stamps, with_validation
from elf_lightning.data.sources.columns import first_rows, pick_columns, pick_streamed_columns
from elf_lightning.encoders import one_clear_failure
from elf_lightning.errors import UserError, first_line

if TYPE_CHECKING:
    from datasets import DatasetDict, IterableDataset


class HubDataset(Source):
    """A data set that `datasets.load_dataset` knows: a Hub id, or a folder of data files.

    Args:
        path: Hub id or folder.
        config: configuration of the data set.
        train_split: training split; any expression that `datasets` takes.
        validation_split: validation split; None holds out the last rows (of a stream, the first).
        text_column: the text, or the target of a pair; `outer.inner` for a nested column.
        condition_column: the condition, for text-to-text.
        validation_fraction: share of rows held out where `validation_split` is not given.
        revision: of the Hub data set.
        streamed_rows: read the training split as a stream that is never written to disk; an epoch is then
            this many rows. None prepares it on disk.
        shuffle_buffer: rows among which a stream is shuffled.
        streamed_validation_rows: rows held out from a stream where `validation_split` is not given.
    """

    def __init__(
        self,
        path: str,
        config: str | None = None,
        train_split: str = "train",
        validation_split: str | None = None,
        text_column: str = "text",
        condition_column: str | None = None,
        validation_fraction: float = 0.05,
        revision: str | None = None,
        streamed_rows: int | None = None,
        shuffle_buffer: int = 10_000,
        streamed_validation_rows: int = 1_000,
    ) -> None:
        self.path = path
        self.config = config
        self.train_split = train_split
        self.validation_split = validation_split
        self.text_column = text_column
        self.condition_column = condition_column
        self.validation_fraction = validation_fraction
        self.revision = revision
        self.streamed_rows = streamed_rows
        self.shuffle_buffer = shuffle_buffer
        self.streamed_validation_rows = streamed_validation_rows

    def load(self, scratch: Path) -> DatasetDict:  # noqa: D102
        from datasets import Dataset, DatasetDict

        validation = None if self.validation_split is None else self._read(self.validation_split)
        if self.streamed_rows is None:
            return with_validation(self._read(self.train_split), validation, self.validation_fraction)
        if validation is None:
            validation = Dataset.from_list(self._held_out(self._stream()))
        return DatasetDict(validation=validation)

    def stream(self, epoch: int, seed: int) -> IterableDataset:  # noqa: D102
        stream = self._stream()
        if self.validation_split is None:
            # By content: rows that are skipped by number are others in every part of a stream.
            validation = {repr(row) for row in self._held_out(stream)}
            stream = stream.filter(lambda row: repr(row) not in validation)
        order = np.random.default_rng((seed, epoch))
        return stream.shuffle(generator=order, buffer_size=self.shuffle_buffer)

    def identity(self) -> dict[str, Any]:  # noqa: D102
        folder = Path(self.path)  # none, for a Hub id
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        return {"class": "HubDataset", **vars(self), "files": file_stamps(files)}

    def _read(self, split: str) -> Any:
        with self._reading(split):
            dataset = self._load(split, streaming=False)
        return pick_columns(dataset, self.text_column, self.condition_column, self.path)

    def _stream(self) -> IterableDataset:
        with self._reading(self.train_split):
            stream = self._load(self.train_split, streaming=True)
            return pick_streamed_columns(stream, self.text_column, self.condition_column, self.path)

    def _held_out(self, stream: IterableDataset) -> list[dict[str, Any]]:
        """The first rows of a stream, which are not trained on."""
        with self._reading(self.train_split):
            return first_rows(stream, self.streamed_validation_rows)

    def _load(self, split: str, streaming: bool) -> Any:
        from datasets import load_dataset

        return load_dataset(self.path, self.config, split=split, revision=self.revision, streaming=streaming)

    @contextmanager
    def _reading(self, split: str) -> Iterator[None]:
        """Tell in one line what could not be read."""
        from datasets.exceptions import DatasetGenerationError

        try:
            with one_clear_failure():
                yield
        except OSError as error:
            raise unreachable(self.path, error) from error
        except DatasetGenerationError as error:  # it only says that there was one
            raise self._unreadable(split, error.__cause__ or error) from error
        except (ValueError, RuntimeError) as error:  # unknown split or config; a loading script; a bad file
            raise self._unreadable(split, error) from error

    def _unreadable(self, split: str, cause: BaseException) -> UserError:
        return UserError(f"source '{self.path}', split '{split}' could not be read: {first_line(cause)}")


def unreachable(path: str, cause: Exception) -> UserError:
    """The error for a data set that neither the disk nor the Hub gave."""
    return UserError(
        f"source '{path}' could not be reached ({first_line(cause)}); download it where there is a network, "
        "and point source.path at the local copy (SavedDataset for a folder written by save_to_disk)"
    )
