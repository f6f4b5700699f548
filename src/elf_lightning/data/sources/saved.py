"""Data sets written by `save_to_disk`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from elf_lightning.data.sources.base import Source, file_stamps, with_validation
from elf_lightning.data.sources.columns import pick_columns
from elf_lightning.data.sources.hub import unreachable
from elf_lightning.encoders import silent_hub_retries
from elf_lightning.errors import UserError

if TYPE_CHECKING:
    from datasets import DatasetDict


class SavedDataset(Source):
    """A folder written by `save_to_disk`, or a Hub data set that was uploaded as such a folder.

    Args:
        path: the folder, or the Hub id.
        train_split: training split, if there are splits.
        validation_split: validation split; None uses the last examples for validation.
        text_column: the text, or the target of a pair; `outer.inner` for a nested column.
        condition_column: the condition, for text-to-text.
        validation_fraction: fraction of examples for validation where `validation_split` is not
            given.
        revision: of the Hub data set.
    """

    def __init__(
        self,
        path: str,
        train_split: str = "train",
        validation_split: str | None = None,
        text_column: str = "text",
        condition_column: str | None = None,
        validation_fraction: float = 0.05,
        revision: str | None = None,
    ) -> None:
        self.path = path
        self.train_split = train_split
        self.validation_split = validation_split
        self.text_column = text_column
        self.condition_column = condition_column
        self.validation_fraction = validation_fraction
        self.revision = revision

    def load(self, scratch: Path) -> DatasetDict:  # noqa: D102
        from datasets import DatasetDict, load_from_disk

        folder = self._folder()
        try:
            saved = load_from_disk(str(folder))
        except FileNotFoundError as error:
            raise UserError(
                f"source path '{folder}' is not a folder written by save_to_disk; "
                "for text, JSON, Arrow or Parquet files use TextFiles, JsonLines or DatasetFiles"
            ) from error
        splits = saved if isinstance(saved, DatasetDict) else {self.train_split: saved}
        picked = [
            pick_columns(_split(splits, name, self.path), self.text_column, self.condition_column, self.path)
            for name in (self.train_split, self.validation_split)
            if name is not None
        ]
        return with_validation(picked[0], picked[1] if len(picked) > 1 else None, self.validation_fraction)

    def identity(self) -> dict[str, Any]:  # noqa: D102
        local = Path(self.path).expanduser()
        states = sorted(local.rglob("*.json")) if local.is_dir() else []
        return {"class": "SavedDataset", **vars(self), "files": file_stamps(states)}

    def _folder(self) -> Path:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError

        local = Path(self.path).expanduser()
        if local.is_dir():
            return local
        try:
            with silent_hub_retries():
                return Path(snapshot_download(self.path, repo_type="dataset", revision=self.revision))
        except HFValidationError as error:
            raise UserError(
                f"source path '{self.path}': there is no such folder; "
                "give one written by save_to_disk, or a Hub id"
            ) from error
        except OSError as error:
            raise unreachable(self.path, error) from error


def _split(splits: Any, name: str, origin: str) -> Any:
    if name not in splits:
        raise UserError(
            f"source '{origin}' has no split '{name}'; it has {', '.join(splits)}: set train_split and "
            "validation_split"
        )
    return splits[name]
