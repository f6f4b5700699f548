"""What every source offers, and what several of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from elf_lightning.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict, IterableDataset

TEXT, CONDITION_TEXT = "text", "condition_text"
IDS, CONDITION_IDS = "input_ids", "condition_input_ids"


class Source(ABC):
    """Documents, or pairs of condition and target, in the splits `train` and `validation`.

    The columns are `text`, with `condition_text` for pairs. Tokenised data has `input_ids`, with
    `condition_input_ids` for pairs.
    """

    streamed_examples: int | None = None
    """Sequences that count as one epoch of a streamed source; None for a source that is prepared on disk."""

    @abstractmethod
    def load(self, scratch: Path) -> DatasetDict:
        """The splits to prepare; `validation` alone for a streamed source.

        Args:
            scratch: a folder for temporary files, deleted after preparation.

        Raises:
            UserError: if the data is missing or empty, or lacks a column.
        """

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Plain values that change when the content does; they are part of the cache key."""

    def stream(self, epoch: int, seed: int) -> IterableDataset:
        """The training examples of a streamed source, in this epoch's order.

        Raises:
            NotImplementedError: for a source that is prepared on disk.
        """
        raise NotImplementedError(f"{type(self).__name__} is prepared on disk, not streamed")


class FileSource(Source):
    """Files of one kind.

    Args:
        path: file, folder (searched for files of this kind) or glob pattern, or a list of them.
        validation: validation files, given as `path`; None uses the last examples for validation.
        validation_fraction: fraction of examples for validation where `validation` is not given.
    """

    suffixes: ClassVar[tuple[str, ...]]
    """Endings of the files that a folder is searched for."""

    def __init__(
        self,
        path: str | list[str],
        validation: str | list[str] | None = None,
        validation_fraction: float = 0.05,
    ) -> None:
        self.path = path
        self.validation = validation
        self.validation_fraction = validation_fraction

    @abstractmethod
    def read(self, files: list[Path], scratch: Path) -> Dataset:
        """One data set of all the files."""

    def load(self, scratch: Path) -> DatasetDict:  # noqa: D102
        sets = [self.read(files, scratch) for files in self._files()]
        return with_validation(sets[0], sets[1] if len(sets) > 1 else None, self.validation_fraction)

    def identity(self) -> dict[str, Any]:  # noqa: D102
        settings = {name: value for name, value in vars(self).items() if name not in ("path", "validation")}
        files = [file_stamps(files) for files in self._files()]
        return {"class": type(self).__name__, "files": files, **settings}

    def _files(self) -> list[list[Path]]:
        given = [self.path] if self.validation is None else [self.path, self.validation]
        return [find_files(path, self.suffixes) for path in given]


def split_off_validation(dataset: Dataset, fraction: float) -> DatasetDict:
    """Use the last `fraction` of the examples, at least one, for validation.

    Raises:
        UserError: if no training example would be left.
    """
    from datasets import DatasetDict

    count = len(dataset)
    cut = count - max(1, round(count * fraction))
    if not 0 < fraction < 1 or cut < 1:
        raise UserError(
            f"source validation_fraction {fraction}: {count} document(s) cannot be split into training and "
            "validation; give more documents (TextFiles makes one of each line with document: line), a "
            "separate validation set, or another fraction"
        )
    return DatasetDict(train=dataset.select(range(cut)), validation=dataset.select(range(cut, count)))


def with_validation(train: Dataset, validation: Dataset | None, fraction: float) -> DatasetDict:
    """Both splits: the validation set given, else the last `fraction` of the training set."""
    from datasets import DatasetDict

    if validation is None:
        return split_off_validation(train, fraction)
    return DatasetDict(train=train, validation=validation)


def find_files(paths: str | list[str], suffixes: tuple[str, ...]) -> list[Path]:
    """The files that paths, folders (searched for these suffixes) and glob patterns stand for, sorted.

    Raises:
        UserError: if a path does not exist, or a folder or pattern matches no file.
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
    """Name, size in bytes and modification time of files, by which a change of content is recognised."""
    stamps = ((file, file.stat()) for file in files)
    return [[str(file.resolve()), status.st_size, status.st_mtime_ns] for file, status in stamps]


def generate(
    read: Callable[..., Iterator[dict[str, Any]]],
    files: list[Path],
    features: dict[str, Any],
    scratch: Path,
    **settings: object,
) -> Dataset:
    """The examples that `read(files, **settings)` yields, written to `scratch` and memory-mapped.

    Raises:
        UserError: if `read` raises one.
        DatasetGenerationError: for any other error in `read`.
    """
    from datasets import Dataset, Features
    from datasets.exceptions import DatasetGenerationError

    try:
        return Dataset.from_generator(
            read,
            features=Features(features),
            cache_dir=str(scratch),
            gen_kwargs={"files": [str(file) for file in files], **settings},
        )
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise
