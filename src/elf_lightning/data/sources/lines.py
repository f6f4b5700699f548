"""How text and JSON lines are read: UTF-8 or, with a byte order mark, UTF-16 and UTF-32; also compressed."""

import bz2
import codecs
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, TextIO

from elf_lightning.errors import UserError, first_line


def _arrow(file: IO[bytes], codec: str) -> Any:
    import pyarrow

    return pyarrow.CompressedInputStream(file, codec)


COMPRESSED: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"\xfd7zXZ\0": lzma.LZMAFile,
    b"BZh": bz2.BZ2File,
    b"\x28\xb5\x2f\xfd": partial(_arrow, codec="zstd"),
    b"\x04\x22\x4d\x18": partial(_arrow, codec="lz4"),
}
"""First bytes of a compressed file -> what unpacks it."""
COMPRESSED_SUFFIXES = (".gz", ".xz", ".bz2", ".zst", ".lz4")
NO_PLAIN_TEXT = (b"PK\x03\x04", b"7z\xbc\xaf\x27\x1c", b"Rar!", b"%PDF", b"\xd0\xcf\x11\xe0", b"{\\rtf")
"""First bytes of archives and documents: ZIP (.docx, .odt, .epub), 7z, RAR, PDF, .doc, .rtf."""
ENCODINGS = {
    (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE): "utf-32",  # first: one begins with a mark of UTF-16
    (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE): "utf-16",
}
"""By byte order mark."""


@contextmanager
def open_text(path: Path, errors: str = "strict") -> Iterator[TextIO]:
    """A text file, to be read within the context; `errors` as for `open`."""
    with path.open("rb") as file:
        start = file.peek(6)
        if start.startswith(NO_PLAIN_TEXT):
            raise UserError(
                f"source file '{path}' is an archive or a document, not plain text; unpack it, and give its "
                "files, or save it as plain text"
            )
        unpack = next((unpack for mark, unpack in COMPRESSED.items() if start.startswith(mark)), None)
        try:
            content = io.BufferedReader(unpack(file)) if unpack else file
            start = content.peek(4)
            encoding = next((name for bom, name in ENCODINGS.items() if start.startswith(bom)), "utf-8-sig")
            with io.TextIOWrapper(content, encoding, errors) as text:
                yield text
        except UnicodeDecodeError as error:
            raise UserError(
                f"source file '{path}' is not {encoding.removesuffix('-sig').upper()} (byte "
                f"{error.object[error.start]:#04x}); convert it, for instance with `iconv -t UTF-8`"
            ) from error
        except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise UserError(
                f"source file '{path}' cannot be unpacked ({first_line(error)}); copy it again"
            ) from error


def json_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """What error messages call the lines, counted from 1, and their objects; blank lines are skipped."""
    with open_text(path, errors="surrogateescape") as file:  # an error then has its line
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            name = f"source file '{path}', line {number}"
            try:
                values = json.loads(line.encode())
                if "\\ud" in line.lower():  # half of a pair is no text
                    json.dumps(values, ensure_ascii=False).encode()
            except (ValueError, RecursionError) as error:  # not JSON, nested without end, or not text
                raise UserError(f"{name} is not JSON in UTF-8: {error}; mend it or leave it out") from error
            if not isinstance(values, dict):
                raise UserError(f"{name} is not a JSON object")
            yield name, values
