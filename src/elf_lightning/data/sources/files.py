"""Text and JSON-lines files: UTF-8 or, with a byte order mark, UTF-16 and UTF-32; also compressed."""

import bz2
import codecs
import gzip
import io
import json
import lzma
import os
import zlib
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from glob import glob
from itertools import chain, groupby, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TextIO, get_args

from elf_lightning.data.sources import base
from elf_lightning.data.sources.base import CONDITION_IDS, CONDITION_TEXT, IDS, TEXT, Source
from elf_lightning.errors import UserError, first_line

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


def _by_arrow(file: IO[bytes], codec: str) -> Any:
    import pyarrow

    return pyarrow.CompressedInputStream(file, codec)


COMPRESSED: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),  # files may be padded with zeros
    b"\xfd7zXZ\0": lzma.LZMAFile,
    b"BZh": bz2.BZ2File,  # so may these
    b"\x28\xb5\x2f\xfd": partial(_by_arrow, codec="zstd"),
    b"\x04\x22\x4d\x18": partial(_by_arrow, codec="lz4"),
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
Unit = Literal["file", "line", "block"]
MAX_DOCUMENT = 2**31  # bytes; Arrow holds no longer text
FORMS = (
    {"text": TEXT},
    {"input": CONDITION_TEXT, "output": TEXT},
    {"condition_input_ids": CONDITION_IDS, "input_ids": IDS},
    {"input_ids": IDS},
)
"""The keys that a JSON line may have, and the columns they become."""


class FileSource(Source):
    """Files of one kind; the arguments are described in the subclasses."""

    suffixes: tuple[str, ...] = ()
    """Endings of the files that a folder is searched for."""
    path: str | list[str]
    validation: str | list[str] | None
    validation_fraction: float

    @abstractmethod
    def read(self, files: list[Path], scratch: Path) -> "Dataset":
        """One data set of all the files."""

    def load(self, scratch: Path) -> "DatasetDict":  # noqa: D102
        train, *validation = (self.read(files, scratch) for files in self._files())
        return base.both_splits(train, self.validation_fraction, *validation)

    def identity(self) -> dict[str, Any]:  # noqa: D102
        settings = {name: value for name, value in vars(self).items() if name not in ("path", "validation")}
        files = [base.file_stamps(files) for files in self._files()]
        return {"class": type(self).__name__, "files": files, **settings}

    def _files(self) -> list[list[Path]]:
        given = [self.path] if self.validation is None else [self.path, self.validation]
        return [_find_files(path, self.suffixes) for path in given]


@dataclass(eq=False)
class TextFiles(FileSource):
    """Text files in UTF-8 or, with a byte order mark, UTF-16 or UTF-32.

    They may be compressed by gzip, xz, bzip2, zstd or LZ4. Folders are searched with all that is linked,
    but without hidden files.

    Args:
        path: file, folder (searched for .txt files) or glob pattern, or a list of them.
        document: what counts as one document: a whole file, a line, or a block between blank lines.
        validation: validation files, given as `path`; None uses the last documents for validation.
        validation_fraction: fraction of documents for validation where `validation` is not given.
    """

    suffixes = (".txt",)
    path: str | list[str]
    document: Unit = "file"
    validation: str | list[str] | None = None
    validation_fraction: float = 0.05

    def __post_init__(self) -> None:
        if self.document not in get_args(Unit):
            raise UserError(f"source document '{self.document}': choose {', '.join(get_args(Unit))}")

    def read(self, files: list[Path], scratch: Path) -> "Dataset":  # noqa: D102
        from datasets import Value

        features = {TEXT: Value("string")}
        return _generate(_documents, features, scratch, files=files, document=self.document)


@dataclass(eq=False)
class JsonLines(FileSource):
    """One JSON object per line, with `text`, or `input` and `output` (text-to-text), or `input_ids`.

    Already tokenised pairs have `condition_input_ids` and `input_ids`. All lines have the keys of the first.
    Files are encoded as for `TextFiles`.

    Args:
        path: file, folder (searched for .jsonl files) or glob pattern, or a list of them.
        validation: validation files, given as `path`; None uses the last examples for validation.
        validation_fraction: fraction of examples for validation where `validation` is not given.
    """

    suffixes = (".jsonl",)
    path: str | list[str]
    validation: str | list[str] | None = None
    validation_fraction: float = 0.05

    def read(self, files: list[Path], scratch: Path) -> "Dataset":  # noqa: D102
        from datasets import List, Value

        file = self._files()[0][0]
        _, values = next(json_objects(file), (None, None))
        if values is None:
            raise UserError(f"source file '{file}' has no line in it; fill it or leave it out")
        form = next((form for form in FORMS if form.keys() <= values.keys()), None)
        if form is None:
            raise UserError(
                f"source file '{file}' has the keys {', '.join(sorted(values)) or 'of an empty object'}; "
                "its lines need text, or input and output, or input_ids"
            )
        features = {
            column: Value("string") if column in (TEXT, CONDITION_TEXT) else List(Value("int64"))
            for column in form.values()
        }
        return _generate(_objects, features, scratch, files=files, form=form)


def _find_files(paths: str | list[str], suffixes: tuple[str, ...]) -> list[Path]:
    """The files that paths, folders (searched for these suffixes) and glob patterns stand for, sorted."""
    found: list[Path] = []
    for path in [paths] if isinstance(paths, str) else paths:
        place = Path(path).expanduser()
        if place.is_file():
            files = iter([place])
        elif place.is_dir():
            files = (file for file in files_below(place) if uncompressed_suffix(file) in suffixes)
        else:
            # Like a shell: hidden files only where the pattern begins with a dot.
            files = map(Path, glob(str(place), recursive=True))  # noqa: PTH207
        matches = sorted(file for file in files if file.is_file())
        if not matches:
            others = sorted({file.suffix for file in files_below(place)} - {""})
            remedy = f"; save its {', '.join(others[:5])} files as {suffixes[0]}" if others else ""
            raise UserError(
                f"source path '{path}': there is no such file, and no folder with "
                f"{' or '.join(suffixes)} files in it{remedy}"
            )
        found += matches
    return found


def files_below(folder: Path) -> Iterator[Path]:
    """All files in `folder` and below, also in linked folders, but not hidden ones and those of macOS."""
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link leads back, or here once more
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        paths = (Path(place, name) for name in files if not name.startswith("."))
        yield from (path for path in paths if path.is_file())


def uncompressed_suffix(path: Path) -> str:
    """The ending of a file's name, without that of its compression: `.jsonl` of `a.jsonl.gz`."""
    return Path(path.stem).suffix if path.suffix in COMPRESSED_SUFFIXES else path.suffix


def _generate(
    read: Callable[..., Iterator[Any]], features: dict[str, Any], scratch: Path, **arguments: object
) -> "Dataset":
    """The examples that `read(**arguments)` yields, written to `scratch` and memory-mapped."""
    from datasets import Dataset, Features
    from datasets.exceptions import DatasetGenerationError

    first = [len(str(example)) for example in islice(read(**arguments), 20)]
    at_once = base.examples_at_once(sum(first) / max(1, len(first)))
    try:
        return Dataset.from_generator(
            read, Features(features), str(scratch), gen_kwargs=arguments, writer_batch_size=at_once
        )
    except DatasetGenerationError as error:
        raise error.__cause__ or error from None


def _documents(files: list[Path], document: Unit) -> Iterator[dict[str, str]]:
    """The documents of text files, without empty ones."""
    for path in files:
        if document == "file" and path.stat().st_size >= MAX_DOCUMENT:
            raise UserError(
                f"source file '{path}' is too large for one document; set source.document to line or block"
            )
        empty = True
        with open_text(path) as lines:
            blocks = groupby(lines, lambda line: document == "file" or bool(line.strip()))
            texts = lines if document == "line" else ("".join(block) for _, block in blocks)
            for text in filter(None, map(str.strip, texts)):
                empty = False
                yield {TEXT: text}
        if empty:
            raise UserError(f"source file '{path}' has no text in it; fill it or leave it out")


def text_lines(path: str) -> Iterator[str]:
    """The lines of text files: one file, those of a folder, or of a pattern."""
    return (line[TEXT] for line in _documents(_find_files(path, TextFiles.suffixes), "line"))


def _objects(files: list[Path], form: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The objects of JSON-lines files, with keys renamed to columns."""
    for line, values in chain.from_iterable(map(json_objects, files)):
        for key, column in form.items():
            if (value := values.get(key)) is None:
                raise UserError(f"{line} has no '{key}'")
            if column in (TEXT, CONDITION_TEXT):
                kind, fits = "string", isinstance(value, str)
            else:
                kind, fits = "list of whole numbers", isinstance(value, list) and all(map(_is_int64, value))
            if not fits:
                raise UserError(f"{line} has something other than a {kind} as '{key}'")
        yield {column: values[key] for key, column in form.items()}


def _is_int64(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


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
