"""The benchmark of an optimizer step: FLOPs that are counted, and both ways in the same weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from benchmarks.optimizer import optimizer_flops, with_gradients
from benchmarks.plain import PlainStep
from benchmarks.sizes import SIZES
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import optimizer
from elf_lightning.optim import MuonSettings


def test_flops_are_those_that_are_counted() -> None:
    network = with_gradients(SIZES["tiny"], "cpu")
    steps = {"product": MuonSettings().build(network, 1e-3).step, "plain": PlainStep(network, 1e-3)}
    for name, step in steps.items():
        with FlopCounterMode(display=False) as counter:
            step()
        assert counter.get_total_flops() == optimizer_flops(network)[name], name


def test_the_benchmark_writes_what_it_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "optimizer.json"
    monkeypatch.setattr(sys, "argv", f"optimizer --size tiny --rounds 2 --json {file}".split())
    optimizer.main()
    written = json.loads(file.read_text())
    assert "of the peak" in capsys.readouterr().out
    assert written["flops"]["plain"] > written["flops"]["product"] > 0
    assert written["steps"]["product"]["times_plain"]["median"] > 0
