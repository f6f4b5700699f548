"""A warning for each collapse with its likely cause, and none for ups and downs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from lightning.pytorch import Trainer

from elf_lightning.callbacks import CollapseWatch, Throughput, TrainingProgress, watch

pytestmark = pytest.mark.filterwarnings("ignore")


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == watch.__name__]


def accuracies(*means: float) -> Callable[[int], dict[str, float]]:
    """Each for one interval of 5 steps, going up and down by 0.02 around it."""
    return lambda batch: {"train/decode_accuracy": means[batch // 5] + (-1) ** batch * 0.02}


def test_a_collapse_of_decode_accuracy_is_told_once(
    scripted: Any, train: Callable[..., Trainer], caplog: pytest.LogCaptureFixture
) -> None:
    train(scripted(accuracies(0.3, 0.8, 0.5, 0.3, 0.2, 0.1)), CollapseWatch(), batches=30)
    (warning,) = warnings_of(caplog)
    assert "fell from 79.6% at step 10 to 29.6% at step 20" in warning
    assert "learning rate that is too high (0.01)" in warning


def test_after_a_recovery_a_collapse_is_told_again(
    scripted: Any, train: Callable[..., Trainer], caplog: pytest.LogCaptureFixture
) -> None:
    train(scripted(accuracies(0.8, 0.3, 0.7, 0.3)), CollapseWatch(), batches=20)
    assert len(warnings_of(caplog)) == 2


@pytest.mark.parametrize("means", [(0.8, 0.41, 0.8), (0.15, 0.02, 0.02)])
def test_no_collapse(
    means: tuple[float, ...], scripted: Any, train: Callable[..., Trainer], caplog: pytest.LogCaptureFixture
) -> None:
    train(scripted(accuracies(*means)), CollapseWatch(), batches=15)
    assert not warnings_of(caplog)


def test_nothing_is_looked_at_where_nothing_is_logged(
    scripted: Any, train: Callable[..., Trainer], caplog: pytest.LogCaptureFixture
) -> None:
    callbacks = (CollapseWatch(), Throughput(), TrainingProgress())
    train(scripted(accuracies(0.8, 0.3)), *callbacks, batches=10, log_every_n_steps=0)
    assert not warnings_of(caplog)


def test_only_the_last_steps_count(
    scripted: Any,
    train: Callable[..., Trainer],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "WINDOW_STEPS", 10)
    train(scripted(accuracies(0.8, 0.6, 0.5, 0.39, 0.3)), CollapseWatch(), batches=25)
    assert not warnings_of(caplog)


@pytest.mark.parametrize(("entropy", "told"), [(0.4, True), (5.4, False)])
def test_entropy_of_samples(
    entropy: float,
    told: bool,
    scripted: Any,
    train: Callable[..., Trainer],
    caplog: pytest.LogCaptureFixture,
) -> None:
    train(scripted(validation={"val/entropy": entropy}), CollapseWatch(), val_check_interval=4)
    found = warnings_of(caplog)
    assert len(found) == told
    assert not told or ("0.40 nats" in found[0] and "too much guidance" in found[0])
