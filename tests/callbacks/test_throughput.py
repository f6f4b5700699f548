"""Tokens a second and utilisation by a clock that the test turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from lightning.pytorch import Callback, Trainer

from elf_lightning.callbacks import Throughput, throughput

pytestmark = pytest.mark.filterwarnings("ignore")
POSITIONS = 16


class Clock(Callback):
    """Batches take a second, from the sixth on two, and a validation a hundred; notes what is logged."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.logged: list[dict[str, float]] = []
        monkeypatch.setattr(throughput.time, "perf_counter", lambda: self.now)

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step:
            self.logged.append({name: float(value) for name, value in trainer.callback_metrics.items()})
        self.now += 1 if batch_idx < 5 else 2

    def on_validation_batch_start(self, *_: Any) -> None:
        self.now += 50


def test_rates_are_means_of_intervals_without_validation(
    scripted: Any, train: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    train(scripted(), clock, Throughput(), batches=16, val_check_interval=4)
    rates = [one["train/tokens_per_second"] for one in clock.logged]
    assert rates[:9] == [POSITIONS] * 9
    assert rates[9:] == [POSITIONS / 2] * 6
    assert all("train/mfu" not in one for one in clock.logged)


def test_utilisation_where_the_peak_is_known(
    scripted: Any, train: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counting(scripted):  # type: ignore[misc]
        def training_flops(self, rows: int, length: int) -> float:
            return 10.0 * rows * length

    monkeypatch.setattr(throughput, "device_peak", lambda device: 400.0)
    clock = Clock(monkeypatch)
    train(Counting(), clock, Throughput(), batches=16)
    shares = [one["train/mfu"] for one in clock.logged]
    assert shares == pytest.approx([160 / 400] * 9 + [80 / 400] * 6)
