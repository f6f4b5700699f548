"""Folders know their files, and checkpoints are whole or absent."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from elf_lightning.checkpoints.torch_file import save_torch_file
from elf_lightning.errors import UserError
from elf_lightning.storage import check_digests, write_digests


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writing more bytes than this into a file fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_too_little_space_is_one_line_with_what_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    with largest_file(100_000), pytest.raises(UserError) as error:
        save_torch_file({"weights": torch.zeros(1_000_000)}, path)
    assert str(error.value).startswith(f"'{path}' cannot be written: File too large (4.1 MB needed, ")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"a": 3}', '{"a": {"bytes": 1}}'])
def test_damaged_digests_are_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "digests.json").write_text(content)
    with pytest.raises(UserError, match=r"digests.json is damaged"):
        check_digests(tmp_path)


def test_a_change_that_keeps_the_time_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("x")
    write_digests(tmp_path)
    check_digests(tmp_path)
    time = path.stat().st_mtime_ns
    path.write_text("y")
    os.utime(path, ns=(time, time))
    with pytest.raises(UserError, match="a is damaged: its content has changed"):
        check_digests(tmp_path)
