"""Data sets from the Hugging Face Hub, prepared on disk or streamed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from elf_lightning.data.sources.base import Source, file_stamps, with_validation
from elf_lightning.data.sources.columns import first_examples, pick_columns, pick_streamed_columns
from elf_lightning.encoders import silent_hub_retries
from elf_lightning.errors import UserError, first_line

if TYPE_CHECKING:
    from datasets import DatasetDict, IterableDataset


class HubDataset(Source):
    """A data set that `datasets.load_dataset` reads: a Hub id, or a folder of data files.

    Args:
        path: Hub id or folder.
        config: configuration of the data set.
        train_split: training split; any split expression of `datasets`.
        validation_split: validation split; None uses the last examples (of a stream, the first) instead.
        text_column: the text, or the target of a pair; `outer.inner` for a nested column.
        condition_column: the condition, for text-to-text.
        validation_fraction: fraction of examples for validation where `validation_split` is not
            given.
        revision: of the Hub data set.
        streamed_examples: read the training split as a stream, without writing it to disk; an epoch is then
            this many sequences. None prepares it on disk.
        shuffle_buffer: number of examples among which a stream is shuffled.
        streamed_validation_examples: number of examples of a stream used for validation where
            `validation_split` is not given.

    Raises:
        UserError: for a `streamed_examples` below 1.
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
        streamed_examples: int | None = None,
        shuffle_buffer: int = 10_000,
        streamed_validation_examples: int = 1_000,
    ) -> None:
        if streamed_examples is not None and streamed_examples < 1:
            raise UserError(f"source.streamed_examples {streamed_examples} must be at least 1")
        self.path = path
        self.config = config
        self.train_split = train_split
        self.validation_split = validation_split
        self.text_column = text_column
        self.condition_column = condition_column
        self.validation_fraction = validation_fraction
        self.revision = revision
        self.streamed_examples = streamed_examples
        self.shuffle_buffer = shuffle_buffer
        self.streamed_validation_examples = streamed_validation_examples

    def load(self, scratch: Path) -> DatasetDict:  # noqa: D102
        from datasets import Dataset, DatasetDict

        validation = None if self.validation_split is None else self._read(self.validation_split)
        if self.streamed_examples is None:
            return with_validation(self._read(self.train_split), validation, self.validation_fraction)
        if validation is None:
            validation = Dataset.from_list(self._validation_examples(self._stream()))
        return DatasetDict(validation=validation)

    def stream(self, epoch: int, seed: int) -> IterableDataset:  # noqa: D102
        stream = self._stream()
        if self.validation_split is None:
            # By content, because the first examples by number differ in every part of a stream.
            validation = {repr(example) for example in self._validation_examples(stream)}
            stream = stream.filter(lambda example: repr(example) not in validation)
        order = np.random.default_rng((seed, epoch))
        return stream.shuffle(generator=order, buffer_size=self.shuffle_buffer)

    def identity(self) -> dict[str, Any]:  # noqa: D102
        folder = Path(self.path)  # does not exist if this is a Hub id
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

    def _validation_examples(self, stream: IterableDataset) -> list[dict[str, Any]]:
        """The first examples of a stream, which are not trained on."""
        with self._reading(self.train_split):
            return first_examples(stream, self.streamed_validation_examples)

    def _load(self, split: str, streaming: bool) -> Any:
        from datasets import load_dataset

        return load_dataset(self.path, self.config, split=split, revision=self.revision, streaming=streaming)

    @contextmanager
    def _reading(self, split: str) -> Iterator[None]:
        """Turn reading errors into messages of one line."""
        from datasets.exceptions import DatasetGenerationError

        try:
            with silent_hub_retries():
                yield
        except OSError as error:
            raise unreachable(self.path, error) from error
        except DatasetGenerationError as error:  # the reason is its cause
            raise self._unreadable(split, error.__cause__ or error) from error
        except (ValueError, RuntimeError) as error:  # unknown split or config; a loading script; a bad file
            raise self._unreadable(split, error) from error

    def _unreadable(self, split: str, cause: BaseException) -> UserError:
        return UserError(f"source '{self.path}', split '{split}' could not be read: {first_line(cause)}")


def unreachable(path: str, cause: Exception) -> UserError:
    """The error for a data set that is neither on disk nor reachable on the Hub."""
    return UserError(
        f"source '{path}' could not be reached ({first_line(cause)}); download it on a machine "
        "with a network, and point source.path at the local copy (SavedDataset for a folder written by "
        "save_to_disk)"
    )
