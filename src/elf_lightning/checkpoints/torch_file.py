"""Files of `torch.save`, read without running code in them and only if they are sound."""

import pickle
import re
import zipfile
import zlib
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from elf_lightning.errors import UserError
from elf_lightning.storage import stamp
from elf_lightning.whole_file import whole_file

_DAMAGED = "the file is damaged, truncated or not a checkpoint; copy it again or use another file"
_UNSAFE = (
    "the file contains more than tensors and plain values, and reading it could run malicious code, so it "
    "was not read; ask its author for a file with only weights"
)


def save_torch_file(content: dict[str, Any], path: Path) -> None:
    """Write what `read_torch_file` reads, whole or not at all."""

    def size() -> int:
        sizes: list[int] = []
        counter = SimpleNamespace(write=lambda data: sizes.append(len(data)), flush=lambda: None)
        torch.save(content, counter)
        return sum(sizes)

    with whole_file(path, size, follow=False) as unfinished, unfinished.open("wb") as file:
        torch.save(content, file)


def read_torch_file(path: Path, checked: bool = True) -> dict[str, Any]:
    """The dictionary in a file written by `torch.save`; only tensors and plain types are accepted.

    Tensors are memory-mapped: clone those to keep. `checked` compares the whole file with its checksums, for
    which there is no need where less than all of it is read. A file that is empty, truncated, changed, not
    written by torch, or needs to run code is a `UserError`.
    """
    if checked:
        check_torch_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:
        unsafe = isinstance(error, pickle.UnpicklingError) and re.search("GLOBAL|Unsupported", str(error))
        raise UserError(_UNSAFE if unsafe else _DAMAGED) from error
    if not isinstance(content, dict):
        raise UserError(f"the file contains a {type(content).__name__}, not a model; use another file")
    return content


def check_torch_file(path: Path) -> None:
    """Compare a file with its checksums, which torch does not read; before torch 1.6 it has none."""
    _check(path.resolve(), stamp(path))


@cache
def _check(path: Path, _: tuple[int, ...]) -> None:
    """Memoised: a command first looks for the newest sound file, and then reads it."""
    with path.open("rb") as file:
        start = file.read(1)
    if not start:
        raise UserError("the file is empty; use another file")
    if not zipfile.is_zipfile(path):
        if start != b"\x80":  # a pickle, from before torch 1.6; a zip file without its end is none
            raise UserError(_DAMAGED)
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            # Torch compresses nothing: an entry beyond the file would be unpacked without end.
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or archive.testzip():
                raise UserError(_DAMAGED)
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, RuntimeError, NotImplementedError) as error:
        raise UserError(_DAMAGED) from error
