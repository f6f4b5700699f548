"""Folders that are made once and kept under a key of everything they depend on."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

from elf_lightning.errors import UserError, first_line
from elf_lightning.storage import check_digests, write_digests
from elf_lightning.whole_file import DISK_ERRORS, flush, not_written, system_error

_REMEDY = "; delete the folder, or set data.rebuild_cache to true, and it is made again"


def cache_key(**parts: Any) -> str:
    """A short name for a set of plain values; equal values give equal names."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def written_once(folder: Path, rebuild: bool = False) -> Iterator[Path | None]:
    """A folder to fill, renamed to `folder` when it is complete; None if `folder` is there and sound.

    One process at a time may fill it while the others wait. An incomplete folder is deleted: at once after
    an error, or by the next process if this one is killed. `rebuild` deletes a damaged one, too.
    """
    unfinished = folder.with_suffix(".incomplete")
    with ExitStack() as stack:
        if not (done := _is_sound(folder, rebuild)):
            try:
                folder.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(WeakFileLock(folder.with_suffix(".lock")))
                stack.callback(shutil.rmtree, unfinished, ignore_errors=True)
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir()
            except OSError as error:
                where = f"data.cache_dir '{folder.parent}' is not writable ({error.strerror})"
                raise UserError(f"{where}; give a writable folder") from error
            done = _is_sound(folder, rebuild)  # another process may have completed it while this one waited
        if done:
            yield None
            return
        try:
            yield unfinished
            write_digests(unfinished)
        except Exception as error:
            cause = system_error(error)
            # A UserError is about another place, such as the cache of the Hub.
            if isinstance(error, UserError) or cause is None or cause.errno not in DISK_ERRORS:
                raise
            raise UserError(f"data.cache_dir {not_written(folder.parent, cause)}") from error
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
        flush(folder.parent)


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Reports damage in a cache in one line; those of older versions have no digests."""
    try:
        yield
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise UserError(f"folder '{folder}' is damaged ({first_line(error)}){_REMEDY}") from error


def _is_sound(folder: Path, rebuild: bool) -> bool:
    try:
        check_digests(folder)
    except UserError as error:
        if rebuild:
            return False
        raise UserError(f"{error}{_REMEDY}") from error
    return folder.exists()
