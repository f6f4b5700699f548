"""Arrow and Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from elf_lightning.data.sources.base import FileSource
from elf_lightning.data.sources.columns import pick_columns
from elf_lightning.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset


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

    def __init__(
        self,
        path: str | list[str],
        validation: str | list[str] | None = None,
        text_column: str = "text",
        condition_column: str | None = None,
        validation_fraction: float = 0.05,
    ) -> None:
        super().__init__(path, validation, validation_fraction)
        self.text_column = text_column
        self.condition_column = condition_column

    def read(self, files: list[Path], scratch: Path) -> Dataset:  # noqa: D102
        from datasets import Dataset, concatenate_datasets
        from datasets.exceptions import DatasetGenerationError

        def read_one(file: Path) -> Dataset:
            if file.suffix == ".parquet":
                return Dataset.from_parquet(str(file), cache_dir=str(scratch))
            return Dataset.from_file(str(file))

        try:
            dataset = concatenate_datasets([read_one(file) for file in files])
        except (ValueError, DatasetGenerationError) as error:
            raise UserError(
                f"source files '{files[0]}'…: not readable as Arrow or Parquet ({error})"
            ) from error
        return pick_columns(dataset, self.text_column, self.condition_column, str(files[0]))
