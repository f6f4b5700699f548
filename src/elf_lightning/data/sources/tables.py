"""Data sets with columns, as the `datasets` library reads them: from the Hub, a saved folder, or files."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError

from elf_lightning.data.sources import base
from elf_lightning.data.sources.base import CONDITION_IDS, CONDITION_TEXT, IDS, TEXT, Source
from elf_lightning.data.sources.files import FileSource, files_below
from elf_lightning.encoders import silent_hub_retries
from elf_lightning.errors import UserError, first_line
from elf_lightning.whole_file import DISK_ERRORS, system_error

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict, IterableDataset


@dataclass(eq=False)
class DatasetFiles(FileSource):
    """Arrow (memory-mapped in place) or Parquet files.

    Args:
        path: file, folder (searched for .parquet and .arrow files) or glob pattern, or a list of them.
        validation: validation files, given as `path`; None uses the last examples for validation.
        text_column: the text, or the target of a pair; `outer.inner` for a nested column.
        condition_column: the condition, for text-to-text.
        validation_fraction: fraction of examples for validation where `validation` is not given.
    """

    suffixes = (".parquet", ".arrow")
    path: str | list[str]
    validation: str | list[str] | None = None
    text_column: str = "text"
    condition_column: str | None = None
    validation_fraction: float = 0.05

    def read(self, files: list[Path], scratch: Path) -> "Dataset":  # noqa: D102
        from datasets import Dataset, concatenate_datasets
        from datasets.exceptions import DatasetGenerationError

        readers = {".parquet": partial(Dataset.from_parquet, cache_dir=str(scratch))}
        try:
            read = [readers.get(file.suffix, Dataset.from_file)(str(file)) for file in files]
            dataset = concatenate_datasets(read)
        except (ValueError, DatasetGenerationError) as error:
            if (cause := system_error(error)) is not None and cause.errno in DISK_ERRORS:
                raise  # of `scratch`
            raise UserError(f"source '{files[0]}'…: not readable as Arrow or Parquet ({error})") from error
        return _pick_columns(dataset, self.text_column, self.condition_column, str(files[0]))


@dataclass(eq=False)
class HubDataset(Source):
    """A data set that `datasets.load_dataset` reads: a Hub id, or a folder of data files.

    Args:
        path: Hub id or folder.
        config: configuration of the data set.
        train_split: training split; any split expression of `datasets`.
        validation_split: validation split; None uses the last examples (of a stream, the first) instead.
        text_column: the text, or the target of a pair; `outer.inner` for a nested column.
        condition_column: the condition, for text-to-text.
        validation_fraction: fraction of examples for validation where `validation_split` is not given.
        revision: of the Hub data set.
        streamed_examples: read the training split as a stream, without writing it to disk; an epoch is then
            this many sequences, at least 1. None prepares it on disk.
        shuffle_buffer: number of examples among which a stream is shuffled.
        streamed_validation_examples: number of examples of a stream used for validation where
            `validation_split` is not given.
    """

    path: str
    config: str | None = None
    train_split: str = "train"
    validation_split: str | None = None
    text_column: str = "text"
    condition_column: str | None = None
    validation_fraction: float = 0.05
    revision: str | None = None
    streamed_examples: int | None = None
    shuffle_buffer: int = 10_000
    streamed_validation_examples: int = 1_000

    def __post_init__(self) -> None:
        if self.streamed_examples is not None and self.streamed_examples < 1:
            raise UserError(f"source.streamed_examples {self.streamed_examples} must be at least 1")

    def load(self, scratch: Path) -> "DatasetDict":  # noqa: D102
        from datasets import Dataset, DatasetDict

        validation = None if self.validation_split is None else self._read(self.validation_split)
        if self.streamed_examples is None:
            return base.both_splits(self._read(self.train_split), self.validation_fraction, validation)
        if validation is None:
            _, examples = self._stream_and_validation()
            validation = Dataset.from_list(examples)
        return DatasetDict(validation=validation)

    def stream(self, epoch: int, seed: int) -> "IterableDataset":  # noqa: D102
        stream, examples = self._stream_and_validation()
        if examples:
            # By content, because the first examples by number differ in every part of a stream.
            validation = {*map(repr, examples)}
            stream = stream.filter(lambda example: repr(example) not in validation)
        order = np.random.default_rng((seed, epoch))
        return stream.shuffle(generator=order, buffer_size=self.shuffle_buffer)

    def identity(self) -> dict[str, Any]:  # noqa: D102
        files = sorted(files_below(Path(self.path).expanduser()))  # none if this is a Hub id
        return {"class": "HubDataset", **vars(self), "files": base.file_stamps(files)}

    def _read(self, split: str, streaming: bool = False) -> Any:
        from datasets import load_dataset

        with _reading(self.path, split):
            place = str(Path(self.path).expanduser()) if self.path.startswith("~") else self.path
            dataset = load_dataset(
                place, self.config, split=split, revision=self.revision, streaming=streaming
            )
            return _pick_columns(dataset, self.text_column, self.condition_column, self.path)

    def _stream_and_validation(self) -> tuple["IterableDataset", list[dict[str, Any]]]:
        """The training split as a stream, and those of its examples that are for validation instead."""
        stream = self._read(self.train_split, streaming=True)
        count = self.streamed_validation_examples if self.validation_split is None else 0
        with _reading(self.path, self.train_split):
            return stream, _first_examples(stream, count)


@dataclass(eq=False)
class SavedDataset(Source):
    """A folder written by `save_to_disk`, or a Hub data set that was uploaded as such a folder.

    Args:
        path: the folder, or the Hub id.
        train_split: training split, if there are splits.
        validation_split: validation split; None uses the last examples for validation.
        text_column: the text, or the target of a pair; `outer.inner` for a nested column.
        condition_column: the condition, for text-to-text.
        validation_fraction: fraction of examples for validation where `validation_split` is not given.
        revision: of the Hub data set.
    """

    path: str
    train_split: str = "train"
    validation_split: str | None = None
    text_column: str = "text"
    condition_column: str | None = None
    validation_fraction: float = 0.05
    revision: str | None = None

    def load(self, scratch: Path) -> "DatasetDict":  # noqa: D102
        from datasets import DatasetDict, load_from_disk

        folder = str(Path(self.path).expanduser())
        if not Path(folder).is_dir():
            with _reading(self.path, self.train_split):
                folder = snapshot_download(self.path, repo_type="dataset", revision=self.revision)
        try:
            saved = load_from_disk(folder)
        except FileNotFoundError as error:
            raise UserError(
                f"source path '{folder}' is not a folder written by save_to_disk; give a file of text, "
                "JSON, Arrow or Parquet (for a source, use TextFiles, JsonLines or DatasetFiles)"
            ) from error
        splits = saved if isinstance(saved, DatasetDict) else {self.train_split: saved}
        names = [name for name in (self.train_split, self.validation_split) if name is not None]
        if missing := [name for name in names if name not in splits]:
            raise UserError(
                f"source '{self.path}' has no split '{missing[0]}'; it has {', '.join(splits)}: set "
                "train_split and validation_split"
            )
        train, *validation = (
            _pick_columns(splits[name], self.text_column, self.condition_column, self.path) for name in names
        )
        return base.both_splits(train, self.validation_fraction, *validation)

    def identity(self) -> dict[str, Any]:  # noqa: D102
        local = Path(self.path).expanduser()
        states = sorted(file for file in files_below(local) if file.suffix == ".json")
        return {"class": "SavedDataset", **vars(self), "files": base.file_stamps(states)}


@contextmanager
def _reading(path: str, split: str) -> Iterator[None]:
    """Turn reading errors into messages of one line."""
    from datasets.exceptions import DatasetGenerationError

    try:
        with silent_hub_retries():
            yield
    except HFValidationError as error:
        raise UserError(
            f"source path '{path}': there is no such folder; give one that exists, or a Hub id"
        ) from error
    # Also an unknown split or config; a loading script; a bad file, the cause of a DatasetGenerationError.
    except (OSError, DatasetGenerationError, ValueError, RuntimeError) as error:
        local = Path(path).expanduser().exists() or path.startswith(("/", ".", "~"))
        if isinstance(error, OSError) and error.errno not in DISK_ERRORS and not local:
            raise UserError(
                f"source '{path}' could not be reached ({first_line(error)}); download it on a machine with "
                "a network, and point source.path at the local copy (SavedDataset for a folder written by "
                "save_to_disk)"
            ) from error
        cause = error.__cause__ if isinstance(error, DatasetGenerationError) else None
        message = first_line(cause or error)
        raise UserError(f"source '{path}', split '{split}' could not be read: {message}") from error


def _pick_columns(dataset: Any, text: str, condition: str | None, origin: str) -> Any:
    """Keep the columns to train on, and call them as preparation expects; ids if there is no such text."""
    from datasets import IterableDataset

    if isinstance(dataset, IterableDataset):
        dataset = dataset.map(_flat)
        if not (examples := _first_examples(dataset, 1)):
            raise UserError(f"source '{origin}' is empty; choose another split")
        present = list(examples[0])
    else:
        dataset = dataset.flatten() if "." in f"{text}{condition}" else dataset
        present = dataset.column_names
    if text not in present and IDS in present:
        return dataset.select_columns([name for name in (CONDITION_IDS, IDS) if name in present])
    wanted = {text: TEXT} if condition is None else {text: TEXT, condition: CONDITION_TEXT}
    if missing := [name for name in wanted if name not in present]:
        raise UserError(
            f"source '{origin}' has no column '{missing[0]}'; it has {', '.join(sorted(present))}: "
            "set text_column and condition_column (elf eval-text: --field)"
        )
    renamed = {old: new for old, new in wanted.items() if old != new}
    return dataset.select_columns(list(wanted)).rename_columns(renamed)


def _first_examples(stream: "IterableDataset", count: int) -> list[dict[str, Any]]:
    """The first examples of a stream, also in a loader's worker, where plain iteration sees a part of it."""
    columns: dict[str, list[Any]] = next(stream.take(count).iter(count), {})
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _flat(example: dict[str, Any]) -> dict[str, Any]:
    """The values of an example by column, also those inside one, by `outer.inner`."""
    nested = [(name, value) for name, value in example.items() if isinstance(value, dict)]
    return example | {f"{name}.{key}": one for name, inside in nested for key, one in _flat(inside).items()}
