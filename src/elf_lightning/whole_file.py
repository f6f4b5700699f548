"""Files that are complete or absent, and disks that cannot be written."""

import errno
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from elf_lightning.errors import UserError, causes

Size = int | Callable[[], int] | None
UNFINISHED = ".incomplete"  # ending of a file or folder that is still being written
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DISK_ERRORS = (*FULL, errno.EROFS)
"""What only writing can meet: a full disk, a quota, a limit of file sizes; a read-only disk."""
NO_ACCESS = (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)
"""What other places may allow."""


@contextmanager
def whole_file(path: str | Path, needed: Size = None, follow: bool = True) -> Iterator[Path]:
    """A file to write, which becomes `path` if the context ends without an error.

    It lies beside `path`, is flushed to the disk and renamed; until then an older file remains. What is
    not a file, such as `/dev/stdout`, is written directly. `needed` is its size in bytes, or finds it. With
    `follow`, the file that a link points to is replaced, not the link. If it cannot be written, a
    `UserError` gives the space needed and free.
    """
    path = Path(path)
    target = _replaced(path, follow)
    # Nobody else writes it.
    file = path if target is None else target.with_name(f".{target.name}.{os.getpid()}{UNFINISHED}")
    try:
        with writing_explained(path, needed):
            file.parent.mkdir(parents=True, exist_ok=True)
            yield file
            _put_in_place(file, target)
    finally:
        if target is not None:
            with suppress(OSError):
                file.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | Path, needed: Size = None) -> Iterator[Path]:
    """A folder to fill, which becomes `path` or is merged into it; arguments and errors as `whole_file`."""
    path = Path(path)
    target = path.resolve()
    folder = target.with_name(target.name + UNFINISHED)
    try:
        with writing_explained(path, needed):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            yield folder
            merged = path.is_dir() and any(path.iterdir())
            for file in [file for file in folder.rglob("*") if file.is_file()]:
                if merged:  # each file is flushed by `whole_file`
                    with whole_file(path / file.relative_to(folder)) as new:
                        file.replace(new)
                else:
                    flush(file)
            if not merged:
                folder.replace(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Write bytes, or a text in UTF-8; errors as `whole_file`."""
    content = content.encode() if isinstance(content, str) else content
    with whole_file(path, len(content)) as file:
        file.write_bytes(content)


def json_lines(records: Iterable[Mapping[str, Any]]) -> str:
    """A line of JSON for each record."""
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


class GrowingFile:
    """JSON lines, kept as they come in `PATH.incomplete`, which becomes `PATH` when all are there.

    Leaving its context gives the file its name; after an error, a message says where the lines so far are.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self.lines = Path(path), 0
        self._target = target = _replaced(self.path)
        self.unfinished = self.path if target is None else target.with_name(target.name + UNFINISHED)
        with writing_explained(self.path):
            self.unfinished.parent.mkdir(parents=True, exist_ok=True)
            self.unfinished.open("w").close()

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Add a line for each record."""
        lines = json_lines(records).encode()
        try:
            with writing_explained(self.path, len(lines)), self.unfinished.open("ab") as file:
                file.write(lines)
        except UserError as error:
            if not self.lines:
                self.discard()
                raise
            raise UserError(f"{error}; the {self.lines} texts before are in '{self.unfinished}'") from error
        self.lines += lines.count(b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            with writing_explained(self.path):
                _put_in_place(self.unfinished, self._target)
        elif not issubclass(kind, UserError):
            self.leave()

    def leave(self) -> None:
        """Stop before all lines are there: delete the file if it has none, else say where they are."""
        if self.lines:
            print(f"the first {self.lines} texts are in '{self.unfinished}'", file=sys.stderr)
        else:
            self.discard()

    def discard(self) -> None:
        """Delete what is written."""
        if self._target is not None:
            self.unfinished.unlink(missing_ok=True)


def _replaced(path: Path, follow: bool = True) -> Path | None:
    """The file whose place a new one takes; None if that is not possible, so that it is written directly."""
    target = path.resolve() if follow else path.parent.resolve() / path.name
    special = path.exists() and not (path.is_file() or path.is_dir())
    return None if special or (path.is_file() and not os.access(target.parent, os.W_OK)) else target


def _put_in_place(file: Path, target: Path | None) -> None:
    """Rename a file to `target`, if any, once it is on the disk, with an older file's permissions."""
    if target is None:
        return
    if target.exists() and not file.is_symlink():
        shutil.copymode(target, file)
    flush(file)
    file.replace(target)
    flush(target.parent)


def remove_unfinished(folder: Path) -> None:
    """Delete what killed processes have left of `whole_file` in `folder`."""
    for path in folder.glob(f".*{UNFINISHED}"):
        path.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Wait until a file, or the list of a folder's files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writing_explained(path: Path, needed: Size = None) -> Iterator[None]:
    """Turn an error in writing, such as a full disk, into one line; arguments and errors as `whole_file`."""
    try:
        yield
    except Exception as error:
        cause = system_error(error)
        if cause is None or isinstance(error, UserError):
            raise
        raise UserError(not_written(path, cause, needed)) from error


def system_error(error: BaseException) -> OSError | None:
    """The operating system's error behind another package's, if there is one."""
    for cause in causes(error):
        if isinstance(cause, OSError):
            return cause
        if found := re.search(r"\(os error (\d+)\)", str(cause)):  # all that safetensors tells
            return OSError(int(found[1]), os.strerror(int(found[1])))
    return None


def not_writable(error: BaseException) -> OSError | None:
    """The system's error behind another one, if another place, or more room, would help."""
    cause = system_error(error)
    helps = cause and (cause.errno in DISK_ERRORS or (cause.filename and cause.errno in NO_ACCESS))
    return cause if helps else None


def not_written(path: Path, cause: OSError, needed: Size = None) -> str:
    """The message for a file that cannot be written: why and, on a full disk, the space needed and free."""
    name = str(path).replace(UNFINISHED, "")
    # `mkdir` calls a file in the place of a folder existing.
    reason = os.strerror(errno.ENOTDIR) if isinstance(cause, FileExistsError) else cause.strerror or cause
    message = f"'{name}' cannot be written: {reason}"
    if cause.errno not in FULL:
        return f"{message}; choose another folder"
    place = next(folder for folder in path.resolve().parents if folder.exists())
    free = megabytes(shutil.disk_usage(place).free)
    size = needed() if callable(needed) else needed
    wanted = "" if size is None else f"{megabytes(size)} needed, "
    return f"{message} ({wanted}{free} free); make room or choose another folder"


def megabytes(size: int) -> str:
    """A number of bytes as text, such as 1.5 MB, rounded up."""
    return f"{-(-size // 10**5) / 10:,.1f} MB"
