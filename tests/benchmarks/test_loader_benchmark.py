"""What the loader's benchmark counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


def test_loading_and_training_are_compared(run_measured: Callable[..., dict[str, Any]]) -> None:
    written = run_measured(main, "--sequences", "80")
    assert set(written["speed"]) == {
        TRAINING, "tokens, 0 workers", "tokens, 2 workers",
        "tokens and cached latents, 0 workers", "tokens and cached latents, 2 workers",
    }  # fmt: skip
    assert all(one["tokens_per_second"]["median"] > 0 for one in written["speed"].values())
    if STATUS.exists():
        assert list(written["memory_bytes"]) == ["80 sequences", "800 sequences"]
