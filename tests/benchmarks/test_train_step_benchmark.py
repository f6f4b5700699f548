"""The benchmark of a training step: whole steps, all parts, the optimizer, FLOPs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from benchmarks.measure import Rounds
from benchmarks.sizes import SIZES
from benchmarks.train_step import main
from benchmarks.training import BACKWARD, BOTH, ENCODE, FORWARD, HEAD, Training

from benchmarks import train_step, training
from elf_lightning.network.flops import training_step_flops

Measured = Callable[..., dict[str, Any]]


def test_steps_and_parts_are_measured(run_measured: Measured, capsys: pytest.CaptureFixture[str]) -> None:
    written = run_measured(main)
    printed, milliseconds = capsys.readouterr().out, written["parts_milliseconds"]
    assert {ENCODE, FORWARD, BACKWARD, HEAD, "optimizer", "average"} < set(milliseconds)
    assert all(name in printed for name in milliseconds)
    assert all(part["low"] <= part["median"] <= part["high"] for part in milliseconds.values())
    assert written["steps"]["ours"]["times_baseline"]["median"] > 0
    assert written["flops"]["step"]["baseline"] > written["flops"]["step"]["ours"] > 0
    assert 0 < written["mfu"] < 1


def test_optimizer_steps_are_measured(run_measured: Measured) -> None:
    written = run_measured(main, "--only", "optimizer")
    assert written["flops"]["optimizer"]["baseline"] > written["flops"]["optimizer"]["ours"] > 0
    assert written["steps"]["ours"]["times_baseline"]["median"] > 0


def test_flops_alone_need_no_steps(run_measured: Measured) -> None:
    written = run_measured(main, "--only", "flops", "--batch-size", "5")
    assert "steps" not in written
    tiny = SIZES["tiny"]
    expected = training_step_flops(tiny.network(), 5, 16, *tiny.objective.mean_counts(5))
    assert written["flops"]["step"]["ours"] == expected


def test_the_backward_pass_is_what_remains(monkeypatch: pytest.MonkeyPatch) -> None:
    both = Rounds({ENCODE: [9.0, 9.0], FORWARD: [1.0, 2.0], BOTH: [4.0, 6.0], HEAD: [5.0, 5.0]})
    monkeypatch.setattr(training, "parts", lambda *_: {})
    monkeypatch.setattr(training, "alternate", lambda *_: both)
    tiny = SIZES["tiny"]
    ours = Training(tiny.network(), tiny.objective)
    batch = train_step.RandomBatches(tiny, torch.device("cpu"))(2)
    found = training.timed_parts(ours, batch, None, rounds=2).seconds  # type: ignore[arg-type]
    assert list(found.items()) == [
        (ENCODE, [9.0, 9.0]), (FORWARD, [1.0, 2.0]), (BACKWARD, [3.0, 4.0]), (HEAD, [5.0, 5.0])
    ]  # fmt: skip
