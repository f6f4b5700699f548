"""From what the user names to the file that holds the model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any, cast

from elf_lightning.errors import UserError, first_line

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = [WEIGHTS_NAME, CONFIG_NAME, "tokenizer/*", "*checkpoint_*"]


def is_hub_folder(path: Path) -> bool:
    """Whether `path` is a folder in the Hub format."""
    return (path / WEIGHTS_NAME).is_file() and (path / CONFIG_NAME).is_file()


def newest_checkpoint(folder: str | Path) -> Path:
    """The checkpoint in `folder`, or in a folder inside it, that was last modified.

    Official checkpoints (`checkpoint_<step>`) count if there are none of Lightning's; there the latest step
    wins, since downloads say nothing by their date.

    Raises:
        UserError: if the folder does not exist or holds no checkpoint.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder '{folder}' to look for checkpoints in; check the path")
    ours = [path for path in folder.rglob("*.ckpt") if path.is_file()]
    if ours:
        return max(ours, key=lambda path: (path.stat().st_mtime_ns, path.name))
    official = [path for path in folder.rglob("checkpoint_*") if path.is_file()]
    if official:
        return max(official, key=lambda path: (step_in_name(path), path.name))
    raise UserError(
        f"folder '{folder}' holds no checkpoint: no *.ckpt, no checkpoint_<step>, no {WEIGHTS_NAME} with "
        f"{CONFIG_NAME}; name a folder that does, or train one first"
    )


def step_in_name(path: Path) -> int:
    """The step in a name such as `checkpoint_95000`; 0 if there is none."""
    found = re.search(r"checkpoint_(\d+)", path.name)
    return int(found[1]) if found else 0


def find_checkpoint(name_or_path: str | Path, **download: Any) -> Path:
    """The checkpoint file, or folder in the Hub format, that `name_or_path` means.

    Args:
        name_or_path: a file, a folder with checkpoints in it, or the id of a model on the Hugging Face Hub.
        download: passed on to `huggingface_hub.snapshot_download`: `revision`, `token` and the like.

    Raises:
        UserError: if there is none, the Hub cannot be reached, or its download has no such option.
    """
    _check_options(download)
    if not str(name_or_path):
        raise UserError(
            "checkpoint '' is no name; give a file, a run's folder, or a Hub id such as owner/name"
        )
    path = Path(name_or_path)
    if not path.exists():
        path = _downloaded(str(name_or_path), **download)
    if path.name in (WEIGHTS_NAME, CONFIG_NAME) and is_hub_folder(path.parent):
        return path.parent
    if path.is_file() or is_hub_folder(path):
        return path
    return newest_checkpoint(path)


def _check_options(download: Mapping[str, Any]) -> None:
    """A misspelt option would be without effect wherever nothing has to be downloaded."""
    if not download:
        return
    from huggingface_hub import snapshot_download

    if unknown := sorted(download.keys() - signature(snapshot_download).parameters.keys()):
        raise UserError(
            f"loading has no option {', '.join(unknown)}; besides its own it knows those of "
            "huggingface_hub.snapshot_download"
        )


def _downloaded(name: str, **download: Any) -> Path:
    if not _HUB_ID.fullmatch(name):
        raise UserError(
            f"checkpoint '{name}' does not exist; give a file, a run's folder, or a Hub id such as owner/name"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    # The bases are OSError and the error of the HTTP library, which differs between versions.
    unreachable = cast(tuple[type[Exception], ...], (*HfHubHTTPError.__bases__, ValueError))
    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES, **download))
    except unreachable as error:
        raise UserError(
            f"checkpoint '{name}' is neither a file nor a folder here, and could not be had from the "
            f"Hugging Face Hub ({first_line(error)}); check the path, or the id and the connection"
        ) from error
