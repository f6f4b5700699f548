"""How text and JSON lines are read: UTF-8 or, with a byte order mark, UTF-16 and UTF-32; plain or gzip."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from elf_lightning.errors import UserError, first_line

GZIP_MARK = b"\x1f\x8b"
ENCODINGS = {
    (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE): "utf-32",  # first: one begins with a mark of UTF-16
    (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE): "utf-16",
}
"""By byte order mark."""


@contextmanager
def open_text(path: Path, errors: str = "strict") -> Iterator[TextIO]:
    """A text file, to be read within the context.

    Args:
        path: the file.
        errors: as for `open`, what to do with bytes that are not text.

    Raises:
        UserError: if the file is damaged or, unless `errors` allows it, not text.
        OSError: if it cannot be opened.
    """
    with path.open("rb") as file:
        try:
            packed = file.peek(2).startswith(GZIP_MARK)
            content = io.BufferedReader(gzip.GzipFile(fileobj=file)) if packed else file
            start = content.peek(4)
            encoding = next(
                (name for marks, name in ENCODINGS.items() if start.startswith(marks)), "utf-8-sig"
            )
            with io.TextIOWrapper(content, encoding, errors) as text:
                yield text
        except UnicodeDecodeError as error:
            raise UserError(
                f"source file '{path}' is not {encoding.removesuffix('-sig').upper()} (byte "
                f"{error.object[error.start]:#04x}); convert it, for instance with `iconv -t UTF-8`"
            ) from error
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UserError(
                f"source file '{path}' cannot be unpacked ({first_line(error)}); copy it again"
            ) from error


def json_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """What error messages call the lines, counted from 1, and their objects; blank lines are skipped.

    Raises:
        UserError: if a line is not a JSON object, or the file is damaged.
        OSError: if it cannot be opened.
    """
    with open_text(path, errors="surrogateescape") as file:  # an error then has its line
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            name = f"source file '{path}', line {number}"
            try:
                values = json.loads(line.encode())
                if "\\ud" in line.lower():  # half of a pair is no text
                    json.dumps(values, ensure_ascii=False).encode()
            except ValueError as error:  # not JSON, or not text
                raise UserError(f"{name} is not JSON in UTF-8: {error}; mend it or leave it out") from error
            if not isinstance(values, dict):
                raise UserError(f"{name} is not a JSON object")
            yield name, values
