"""Turning a generator over files into a memory-mapped data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elf_lightning.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset


def dataset_of(
    read: Callable[..., Iterator[dict[str, Any]]],
    files: Sequence[Path],
    features: Mapping[str, Any],
    scratch: Path,
    **settings: object,
) -> Dataset:
    """The rows that `read(files, **settings)` yields, with these features, written once to `scratch`.

    Raises:
        UserError: the one that `read` raised, or if there is no row at all.
        DatasetGenerationError: for anything else that `read` raised.
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
