"""Tokens per second and utilisation by a clock that the test sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader

from elf_lightning.callbacks import Throughput, watch

pytestmark = pytest.mark.filterwarnings("ignore")
POSITIONS = 16


class Clock(Callback):
    """Batches take a second, from the sixth on two, and a validation a hundred; notes what is logged."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.logged: list[dict[str, float]] = []
        monkeypatch.setattr(watch.time, "perf_counter", lambda: self.now)

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


def test_rates_are_logged_when_they_change(scripted: Any, train: Callable[..., Trainer]) -> None:
    steps: list[int] = []

    class Noting(scripted):  # type: ignore[misc]
        def log_dict(self, values: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            if "train/tokens_per_second" in values:
                steps.append(self.global_step)
            super().log_dict(values, *args, **kwargs)

    train(Noting(), Throughput(), batches=16)
    assert steps == [1, 2, 3, 4, 5, 10, 15]


def test_batches_of_other_types_are_left_out(scripted: Any, tmp_path: Path) -> None:
    batches = DataLoader([torch.ones(2)] * 3, batch_size=None)  # type: ignore[arg-type]
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, callbacks=[Throughput()], default_root_dir=tmp_path, **quiet
    )
    trainer.fit(scripted(), batches)
    assert trainer.global_step == 3
    assert "train/tokens_per_second" not in trainer.callback_metrics


def test_utilisation_where_the_peak_is_known(
    scripted: Any, train: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counting(scripted):  # type: ignore[misc]
        def training_flops(self, batch_size: int, length: int) -> float:
            return 10.0 * batch_size * length

    monkeypatch.setattr(watch, "device_peak", lambda device: 400.0)
    clock = Clock(monkeypatch)
    train(Counting(), clock, Throughput(), batches=16)
    shares = [one["train/mfu"] for one in clock.logged]
    assert shares == pytest.approx([160 / 400] * 9 + [80 / 400] * 6)
