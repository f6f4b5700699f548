"""What the loader's benchmark counts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from benchmarks.loader import (
    STATUS,
    TRAINING,
    corpus,
    data_module,
    epoch_memory,
    speed_table,
    tokens_read,
    training_step,
)
from benchmarks.rounds import Rounds
from benchmarks.sizes import SIZES

TINY = SIZES["tiny"]


def test_rates_and_their_ratio_to_training() -> None:
    rounds = Rounds({TRAINING: [1.0, 2.0, 4.0], "reading": [0.5, 1.0, 1.0]})
    _, records = speed_table(rounds, {TRAINING: 100, "reading": 400})
    assert records["reading"]["tokens_per_second"] == {"median": 400, "low": 400, "high": 800}
    assert records["reading"]["times_training"] == {"median": 8, "low": 8, "high": 16}
    assert records[TRAINING]["times_training"]["median"] == 1


def test_an_epoch_is_read_whole_with_and_without_latents() -> None:
    with corpus(TINY, rows=100) as folder:
        for cached in (False, True):
            loader = data_module(folder, TINY, cache_latents=cached).train_dataloader()
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


@pytest.mark.skipif(not STATUS.exists(), reason="only Linux tells")
def test_mapped_files_are_no_anonymous_memory(tmp_path: Path) -> None:
    size, file = 50_000_000, tmp_path / "zeros"
    file.write_bytes(bytes(size))
    words = [sys.executable, "-c", MEASURE, str(size), str(file)]
    root = Path(__file__).parents[2]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_training_step_says_how_many_tokens_it_took() -> None:
    step = training_step(TINY, torch.device("cpu"))
    assert step() == step() == TINY.batch_size * TINY.max_length
