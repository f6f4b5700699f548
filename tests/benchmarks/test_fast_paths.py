"""Every fast path, alone, comes to what the plain way does."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from benchmarks.fast_paths import FastPath, fast_paths
from benchmarks.sizes import SIZES

from benchmarks import fast_paths as benchmark

PATHS = list(fast_paths(SIZES["tiny"], torch.device("cpu")))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_both_ways_agree(path: FastPath) -> None:
    path.check()


def test_a_difference_is_seen() -> None:
    with pytest.raises(AssertionError):
        FastPath("two and three", lambda: torch.tensor(2.0), lambda: torch.tensor(3.0)).check()


def test_the_benchmark_writes_what_it_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "fast_paths.json"
    monkeypatch.setattr(sys, "argv", f"fast_paths --size tiny --rounds 2 --json {file}".split())
    benchmark.main()
    written = json.loads(file.read_text())["paths"]
    assert list(written) == [path.name for path in PATHS]
    assert all(way["fast"]["times_plain"]["median"] > 0 for way in written.values())
    assert "RMS norm" in capsys.readouterr().out
