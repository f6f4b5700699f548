"""Finds the checkpoint file of a path or Hub id."""

from __future__ import annotations

import re
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import Any, cast

from elf_lightning.errors import UserError, first_line

RUNS = Path("runs")
SHIPPED_MODEL = "package:elf_books/model"
WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = [WEIGHTS_NAME, CONFIG_NAME, "tokenizer/*", "*checkpoint_*"]


def is_hub_folder(path: Path) -> bool:
    """Whether `path` is a folder in the Hub format."""
    return (path / WEIGHTS_NAME).is_file() and (path / CONFIG_NAME).is_file()


def newest_checkpoint(folder: str | Path) -> Path:
    """The last modified Lightning checkpoint in `folder` or below.

    Without any, the official checkpoint (`checkpoint_<step>`) with the highest step, since the date of a
    download has no meaning.

    Raises:
        UserError: if the folder does not exist or contains no checkpoint.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"folder '{folder}' does not exist; give a folder with checkpoints")
    lightning = [path for path in folder.rglob("*.ckpt") if path.is_file()]
    if lightning:
        return max(lightning, key=lambda path: (path.stat().st_mtime_ns, path.name))
    official = [path for path in folder.rglob("checkpoint_*") if path.is_file()]
    if official:
        return max(official, key=lambda path: (step_in_name(path), path.name))
    raise UserError(
        f"folder '{folder}' contains no checkpoint (*.ckpt, checkpoint_<step>, or {WEIGHTS_NAME} with "
        f"{CONFIG_NAME}); give another folder, or train a model first"
    )


def step_in_name(path: Path) -> int:
    """The step in a name such as `checkpoint_95000`; 0 without one."""
    found = re.search(r"checkpoint_(\d+)", path.name)
    return int(found[1]) if found else 0


def find_checkpoint(name_or_path: str | Path, **download: Any) -> Path:
    """The checkpoint file or Hub folder that `name_or_path` refers to.

    Args:
        name_or_path: a file, a folder with checkpoints, an id on the Hugging Face Hub, `package:NAME/FOLDER`
            for a folder in an installed package, or just NAME for its folder `model`.
        download: options of `huggingface_hub.snapshot_download`, such as `revision` and `token`.

    Raises:
        UserError: if there is no checkpoint, the Hub cannot be reached, or an option is unknown.
    """
    if download:
        from huggingface_hub import snapshot_download

        # Also where nothing is downloaded, and they would have no effect.
        if unknown := sorted(download.keys() - signature(snapshot_download).parameters.keys()):
            raise UserError(
                f"loading has no option {', '.join(unknown)}; besides its own arguments it accepts those of "
                "huggingface_hub.snapshot_download"
            )
    if not str(name_or_path):
        raise UserError(
            "the checkpoint is an empty string; give a file, a run's folder, or a Hub id such as owner/name"
        )
    path = Path(name_or_path)
    if not path.exists():
        path = _installed(str(name_or_path)) or _downloaded(str(name_or_path), **download)
    if path.name in (WEIGHTS_NAME, CONFIG_NAME) and is_hub_folder(path.parent):
        return path.parent
    if path.is_file() or is_hub_folder(path):
        return path
    return newest_checkpoint(path)


def shipped_model() -> Path:
    """The model that commands use if no checkpoint is given and there are no runs.

    Raises:
        UserError: if it is not installed.
    """
    try:
        return find_checkpoint(SHIPPED_MODEL)
    except UserError as error:
        raise UserError(
            "there is no checkpoint under runs/, and the model elf_books is not installed; `make install` "
            "installs it, `make quickstart` trains a model"
        ) from error


def _installed(name: str) -> Path | None:
    """The folder in an installed package; None if `name` cannot mean one.

    Raises:
        UserError: for `package:NAME/FOLDER` without such a package or folder.
    """
    from elf_lightning.encoders.hugging_face import PACKAGE_PREFIX, resolve_folder

    if name.startswith(PACKAGE_PREFIX):
        return Path(resolve_folder(name))
    with suppress(UserError):
        return Path(resolve_folder(f"{PACKAGE_PREFIX}{name}/model"))
    return None


def _downloaded(name: str, **download: Any) -> Path:
    if not _HUB_ID.fullmatch(name):
        raise UserError(
            f"checkpoint '{name}' does not exist; give a file, a run's folder, a Hub id such as owner/name, "
            "or an installed package with a model, such as elf_books"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    # Its bases are OSError and the error of the HTTP library, which depends on the version.
    unreachable = cast(tuple[type[Exception], ...], (*HfHubHTTPError.__bases__, ValueError))
    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES, **download))
    except unreachable as error:
        raise UserError(
            f"checkpoint '{name}' is not a local file or folder, and could not be downloaded from the "
            f"Hugging Face Hub ({first_line(error)}); check the path, or the id and the connection"
        ) from error
