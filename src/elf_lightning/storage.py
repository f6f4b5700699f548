"""Folders that know the digests of their files."""

import hashlib
import json
from functools import cache
from pathlib import Path

from elf_lightning.errors import UserError
from elf_lightning.whole_file import flush, write_whole

DIGESTS = "digests.json"  # size and SHA-256 of each file of a folder, in the folder itself


def write_digests(folder: Path, *left_out: str) -> None:
    """Write size and digest of all files in `folder`, on the disk themselves, but those `left_out`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {}
    for path in (path for path in files if path.name not in (DIGESTS, *left_out)):
        flush(path)
        entry = {"bytes": path.stat().st_size, "sha256": _sha256(path.resolve(), stamp(path))}
        digests[path.relative_to(folder).as_posix()] = entry
    write_whole(folder / DIGESTS, json.dumps(digests, indent=2) + "\n")


def check_digests(folder: Path) -> None:
    """Compare all files with the digests in `folder`; folders of older versions have none."""
    if not (folder / DIGESTS).is_file():
        return
    try:
        digests = json.loads((folder / DIGESTS).read_text(encoding="utf-8")).items()
        known = {name: (int(entry["bytes"]), entry["sha256"]) for name, entry in digests}
    except Exception as error:
        raise UserError(f"folder '{folder}': {DIGESTS} is damaged") from error
    for name, (size, digest) in known.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"folder '{folder}': {name} is missing")
        if (found := path.stat().st_size) != size:
            damage = f"it has {found:,} bytes instead of {size:,}"
            raise UserError(f"folder '{folder}': {name} is damaged: {damage}")
        if _sha256(path.resolve(), stamp(path)) != digest:
            raise UserError(f"folder '{folder}': {name} is damaged: its content has changed")


def stamp(path: Path) -> tuple[int, ...]:
    """Changes with the content of a file; `ctime` changes even if a copy keeps the time of modification."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@cache
def _sha256(path: Path, _: tuple[int, ...]) -> str:
    """Memoised by `stamp`, since several parts of a command read the same folder."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
