"""What the loader's benchmark counts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmarks.loader import (
    STATUS,
    TRAINING,
    corpus,
    epoch_memory,
    main,
    speed_table,
    tokens_read,
    train_loader,
)
from benchmarks.measure import Rounds
from benchmarks.sizes import SIZES

TINY = SIZES["tiny"]


def test_rates_and_their_ratio_to_training() -> None:
    rounds = Rounds({TRAINING: [1.0, 2.0, 4.0], "reading": [0.5, 1.0, 1.0]})
    _, records = speed_table(rounds, {TRAINING: 100, "reading": 400})
    assert records["reading"]["tokens_per_second"] == {"median": 400, "low": 400, "high": 800}
    assert records["reading"]["times_training"] == {"median": 8, "low": 8, "high": 16}
    assert records[TRAINING]["times_training"]["median"] == 1


def test_an_epoch_is_read_whole_with_and_without_latents() -> None:
    with corpus(TINY, sequences=100) as folder:
        for cached in (False, True):
            loader = train_loader(folder, TINY, cache_latents=cached)
            assert tokens_read(loader) == len(loader) * TINY.batch_size * TINY.max_length
            assert hasattr(next(iter(loader)), "latents") == cached
        if STATUS.exists():
            assert epoch_memory(folder, TINY) > 0
    assert not folder.exists()


MEASURE = """
import sys, torch
from benchmarks.loader import anonymous_bytes
size, file = int(sys.argv[1]), sys.argv[2]
before = anonymous_bytes()
mapped = torch.from_file(file, size=size, dtype=torch.uint8)
assert not mapped.any()
assert anonymous_bytes() - before < size / 2
own = torch.ones(size, dtype=torch.uint8)
assert anonymous_bytes() - before > size / 2
"""
"""In a process of its own: in this one, earlier tests may have left memory to use again."""


@pytest.mark.skipif(not STATUS.exists(), reason="only Linux has /proc")
def test_mapped_files_are_no_anonymous_memory(tmp_path: Path) -> None:
    size, file = 50_000_000, tmp_path / "zeros"
    file.write_bytes(bytes(size))
    words = [sys.executable, "-c", MEASURE, str(size), str(file)]
    root = Path(__file__).parents[2]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_loading_and_training_are_compared(run_measured: Callable[..., dict[str, Any]]) -> None:
    written = run_measured(main, "--sequences", "80")
    assert set(written["speed"]) == {
        TRAINING, "tokens, 0 workers", "tokens, 2 workers",
        "tokens and cached latents, 0 workers", "tokens and cached latents, 2 workers",
    }  # fmt: skip
    assert all(one["tokens_per_second"]["median"] > 0 for one in written["speed"].values())
    if STATUS.exists():
        assert list(written["memory_bytes"]) == ["80 sequences", "800 sequences"]
