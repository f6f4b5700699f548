"""Folders that are made once and kept under a key of everything they depend on."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from elf_lightning.errors import UserError


def cache_key(**parts: Any) -> str:
    """A short name for a set of plain values; equal values give equal names."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def written_once(folder: Path) -> Iterator[Path | None]:
    """A folder to fill, renamed to `folder` when it is complete; None if `folder` exists already.

    One process at a time may fill it while the others wait. An incomplete folder is deleted: at once after
    an error, or by the next process if this one is killed.

    Raises:
        UserError: if the cache folder is not writable.
    """
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    if folder.exists():
        yield None
        return
    unfinished = folder.with_suffix(".incomplete")
    with ExitStack() as stack:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(WeakFileLock(folder.with_suffix(".lock")))
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
        except OSError as error:
            raise UserError(
                f"data.cache_dir '{folder.parent}' is not writable ({error.strerror}); give a writable folder"
            ) from error
        if folder.exists():  # another process completed it while this one waited
            unfinished.rmdir()
            yield None
            return
        stack.callback(shutil.rmtree, unfinished, ignore_errors=True)
        yield unfinished
        unfinished.rename(folder)
