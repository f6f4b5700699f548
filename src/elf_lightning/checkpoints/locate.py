"""Finds the checkpoint file of a path or Hub id."""

import logging
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from glob import escape, glob
from inspect import signature
from math import inf
from pathlib import Path
from typing import Any, cast

from elf_lightning.errors import UserError, first_line
from elf_lightning.storage import DIGESTS
from elf_lightning.whole_file import whole_file

logger = logging.getLogger(__name__)

RUNS = Path("runs")
LAST = "last.ckpt"
FIT = "fit"
"""Entry of a checkpoint: how many times a `fit` had begun in its folder, itself included."""
SHIPPED_MODEL = "package:elf_books/model"
WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = [WEIGHTS_NAME, CONFIG_NAME, DIGESTS, "tokenizer/*", "*checkpoint_*"]


def is_hub_folder(path: Path) -> bool:
    """Whether `path` is a folder in the Hub format."""
    return (path / WEIGHTS_NAME).is_file() and (path / CONFIG_NAME).is_file()


def newest_checkpoint(folder: str | Path) -> Path:
    """The newest Lightning checkpoint in `folder` or below; without any, the newest official one.

    Of several runs, it is in the one that was written last: the one with the highest step of the last `fit`.
    Copies change the time of a file, so that it only decides between equals. Damaged files are passed over
    with a warning. A folder that does not exist, or without a checkpoint that can be read, is a `UserError`.
    """
    from elf_lightning.checkpoints.torch_file import read_torch_file

    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"folder '{folder}' does not exist; give a folder with checkpoints")
    files = checkpoint_files(folder) or checkpoint_files(folder, "checkpoint_*")
    damaged: list[str] = []
    runs = [[path for path in files if run_folder(path) == run] for run in {*map(run_folder, files)}]
    runs.sort(key=lambda run: max(path.stat().st_mtime_ns for path in run), reverse=True)
    for path in (path for run in runs for path in sorted(run, key=_newness, reverse=True)):
        try:
            read_torch_file(path)
        except UserError as error:
            damaged.append(f"'{path}': {error}")
            continue
        for line in damaged:
            logger.warning("passed over %s", line)
        return path
    if damaged:
        raise UserError(f"no checkpoint in folder '{folder}' can be read: {damaged[0]}")
    raise UserError(
        f"folder '{folder}' contains no checkpoint (*.ckpt, checkpoint_<step>, or {WEIGHTS_NAME} with "
        f"{CONFIG_NAME}); give another folder, or train a model first"
    )


def last_good(folder: str | Path | None) -> str:
    """What `newest_checkpoint` finds, for messages."""
    with suppress(UserError):
        if folder is not None:
            return f"the last good checkpoint is {newest_checkpoint(folder)}"
    return "no checkpoint was saved before it"


def checkpoint_files(folder: Path, pattern: str = "*.ckpt") -> list[Path]:
    """The files below `folder`, also in linked folders, but without links to a file beside them."""
    # `rglob` does not follow links.
    found = map(Path, glob(f"{escape(str(folder))}/**/{pattern}", recursive=True))  # noqa: PTH207
    return [
        path
        for path in found
        if path.is_file() and not (path.is_symlink() and path.resolve().parent == path.parent.resolve())
    ]


def fit_and_step(path: Path) -> tuple[int, int]:
    """Which `fit` of its folder wrote a checkpoint (0 in older versions), and after how many steps."""
    from elf_lightning.checkpoints.torch_file import read_torch_file

    content = read_torch_file(path, checked=False)
    described = content.get("elf")
    other = described.get("step") if isinstance(described, Mapping) else content.get("step")
    numbers = (content.get(FIT, 0), content.get("global_step", other))
    fit, step = (number if isinstance(number, int) else 0 for number in numbers)
    return fit, step or step_in_name(path)


def _newness(path: Path) -> tuple[int | float | str, ...]:
    """Sorts by age; one that cannot be read is the newest, to be tried first."""
    try:
        return (*fit_and_step(path), path.stat().st_mtime_ns, path.name)
    except UserError:
        return (inf,)


def run_folder(checkpoint: Path) -> Path:
    """The folder of the run that wrote `checkpoint`; for a Hub folder, the folder itself."""
    if is_hub_folder(checkpoint):
        return checkpoint
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent


def link_newest(checkpoint: Path) -> None:
    """Let `last.ckpt` beside `checkpoint` be a link to it, at once; a copy where there are no links."""
    last = checkpoint.with_name(LAST)
    if checkpoint.name != LAST:
        with whole_file(last, follow=False) as link:
            try:
                link.symlink_to(checkpoint.name)
            except OSError:
                shutil.copyfile(checkpoint, link)


def step_in_name(path: Path) -> int:
    """The step in a name such as `checkpoint_95000`; 0 without one."""
    found = re.search(r"checkpoint_(\d+)", path.name)
    return int(found[1]) if found else 0


def find_checkpoint(name_or_path: str | Path, **download: Any) -> Path:
    """The checkpoint file or Hub folder that `name_or_path` refers to; a `UserError` without one.

    Args:
        name_or_path: a file, a folder with checkpoints, an id on the Hugging Face Hub, `package:NAME/FOLDER`
            for a folder in an installed package, or just NAME for its folder `model`.
        download: options of `huggingface_hub.snapshot_download`, such as `revision` and `token`.
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
        path = _elsewhere(str(name_or_path), **download)
    if path.name in (WEIGHTS_NAME, CONFIG_NAME) and is_hub_folder(path.parent):
        return path.parent
    if path.is_file() or is_hub_folder(path):
        return path
    return newest_checkpoint(path)


def newest_or_shipped() -> Path:
    """The newest checkpoint under runs/; without any, the model that is shipped."""
    if checkpoint_files(RUNS) or checkpoint_files(RUNS, "checkpoint_*"):
        return newest_checkpoint(RUNS)
    try:
        return find_checkpoint(SHIPPED_MODEL)
    except UserError as error:
        raise UserError(
            "there is no checkpoint under runs/, and the model elf_books is not installed; `make install` "
            "installs it, `make quickstart` trains a model"
        ) from error


def _elsewhere(name: str, **download: Any) -> Path:
    """The folder in an installed package, or a copy of the one on the Hub."""
    from elf_lightning.encoders.hugging_face import PACKAGE_PREFIX, resolve_folder

    if name.startswith(PACKAGE_PREFIX):
        return Path(resolve_folder(name))
    with suppress(UserError):
        return Path(resolve_folder(f"{PACKAGE_PREFIX}{name}/model"))
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
