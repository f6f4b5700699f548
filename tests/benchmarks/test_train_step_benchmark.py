"""The benchmark of a training step: all its parts, timed and written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from benchmarks.rounds import Rounds
from benchmarks.train_parts import BACKWARD, BOTH, ENCODE, FORWARD, HEAD

from benchmarks import train_parts, train_step


def test_the_benchmark_writes_what_it_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "train_step.json"
    monkeypatch.setattr(sys, "argv", f"train_step --size tiny --rounds 2 --json {file}".split())
    train_step.main()
    printed, written = capsys.readouterr().out, json.loads(file.read_text())
    assert {ENCODE, FORWARD, BACKWARD, HEAD, "optimizer", "average"} < set(written["parts"])
    assert all(name in printed for name in written["parts"])
    assert all(part["low"] <= part["median"] <= part["high"] for part in written["parts"].values())
    assert written["plain_flops"] > written["product_flops"]
    assert 0 < written["product_mfu"] < written["product_of_peak"] < 1


def test_the_backward_pass_is_what_remains(monkeypatch: pytest.MonkeyPatch) -> None:
    both = Rounds({ENCODE: [9.0, 9.0], FORWARD: [1.0, 2.0], BOTH: [4.0, 6.0], HEAD: [5.0, 5.0]})
    monkeypatch.setattr(train_parts, "parts", lambda *_: {})
    monkeypatch.setattr(train_parts, "alternate", lambda *_: both)
    training = train_step.ProductTraining(train_step.SIZES["tiny"], train_step.torch.device("cpu"))
    found = train_parts.timed_parts(training, None, rounds=2).seconds  # type: ignore[arg-type]
    assert list(found.items()) == [
        (ENCODE, [9.0, 9.0]), (FORWARD, [1.0, 2.0]), (BACKWARD, [3.0, 4.0]), (HEAD, [5.0, 5.0])
    ]  # fmt: skip
