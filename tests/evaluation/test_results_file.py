"""The files in which an evaluation keeps what it has done."""

from __future__ import annotations

from pathlib import Path

import pytest

from elf_lightning.errors import UserError
from elf_lightning.evaluation.results_file import ResultsFile

ROWS = [{"text": "light"}, {"text": "so great a light: \u2028 \u00e9"}]


@pytest.fixture
def lines(tmp_path: Path) -> ResultsFile:
    return ResultsFile(tmp_path / "rows.jsonl")


def test_rows_are_read_as_written(lines: ResultsFile) -> None:
    assert lines.read() == []
    lines.replace(ROWS[:1])
    lines.append(ROWS[1:])
    assert lines.read() == ROWS


def test_a_row_truncated_at_any_byte_is_ignored(lines: ResultsFile) -> None:
    lines.replace(ROWS)
    whole = lines.path.read_bytes()
    first = whole.index(b"\n") + 1
    for size in range(len(whole)):
        lines.path.write_bytes(whole[:size])
        assert lines.read() == ROWS[: size >= first]


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    lines = ResultsFile(tmp_path / "file" / "rows.jsonl")
    for write in (lines.replace, lines.append):
        with pytest.raises(UserError, match=r"rows.jsonl' cannot be written: .+; choose another folder"):
            write(ROWS)


@pytest.mark.parametrize("line", [b"no JSON", b"[]", b"\xff"])
def test_any_other_damaged_line_is_reported(lines: ResultsFile, line: bytes) -> None:
    lines.path.write_bytes(b'{"text": "a"}\n' + line + b"\n{}\n")
    with pytest.raises(UserError, match=r"line 2 of .*rows.jsonl is not a JSON object; move it away"):
        lines.read()
