"""Arrow and Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from elf_lightning.data.sources.base import Source, file_stamps, find_files, with_validation
from elf_lightning.data.sources.columns import pick_columns
from elf_lightning.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


class DatasetFiles(Source):
    """Arrow (read in place) or Parquet files.

    Args:
        path: file, folder (searched for .parquet and .arrow files) or pattern, or several of them.
        validation: files held out, as `path`; None holds out the last rows.
        text_column: the text, or the target of a pair; `outer.inner` for a nested column.
        condition_column: the condition, for text-to-text.
        validation_fraction: share of rows held out where `validation` is not given.
    """

    def __init__(
        self,
        path: str | list[str],
        validation: str | list[str] | None = None,
        text_column: str = "text",
        condition_column: str | None = None,
        validation_fraction: float = 0.05,
    ) -> None:
        self.path = path
        self.validation = validation
        self.text_column = text_column
        self.condition_column = condition_column
        self.validation_fraction = validation_fraction

    def load(self, scratch: Path) -> DatasetDict:  # noqa: D102
        sets = [
            pick_columns(read_files(files, scratch), self.text_column, self.condition_column, str(files[0]))
            for files in self._files()
        ]
        return with_validation(sets[0], sets[1] if len(sets) > 1 else None, self.validation_fraction)

    def identity(self) -> dict[str, Any]:  # noqa: D102
        return {
            "class": "DatasetFiles",
            "files": [file_stamps(files) for files in self._files()],
            "columns": [self.text_column, self.condition_column],
            "validation_fraction": self.validation_fraction,
        }

    def _files(self) -> list[list[Path]]:
        given = [self.path] if self.validation is None else [self.path, self.validation]
        return [find_files(path, (".parquet", ".arrow")) for path in given]


def read_files(files: list[Path], scratch: Path) -> Dataset:
    """One data set of all the files.

    Raises:
        UserError: if a file is neither Arrow nor Parquet.
    """
    from datasets import Dataset, concatenate_datasets
    from datasets.exceptions import DatasetGenerationError

    try:
        return concatenate_datasets(
            [
                Dataset.from_parquet(str(file), cache_dir=str(scratch))
                if file.suffix == ".parquet"
                else Dataset.from_file(str(file))
                for file in files
            ]
        )
    except (ValueError, DatasetGenerationError) as error:
        raise UserError(f"source files '{files[0]}'…: not readable as Arrow or Parquet ({error})") from error
