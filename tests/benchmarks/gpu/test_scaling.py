"""Two processes over gloo: speeds are measured, and the promises to a user of several GPUs are kept."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from benchmarks.gpu.ranks import main as ranks_main
from benchmarks.gpu.scaling import CASES, main, measured, powers, torchrun, with_efficiency
from benchmarks.measure import Budget

from benchmarks.gpu import scaling


@pytest.mark.parametrize(("gpus", "planned"), [(1, [1]), (2, [1, 2]), (8, [1, 2, 4, 8]), (6, [1, 2, 4, 6])])
def test_numbers_of_gpus(gpus: int, planned: list[int]) -> None:
    assert powers(gpus) == planned


def test_efficiency_is_against_one_gpu_in_the_same_case() -> None:
    cases = [
        {"case": case, "gpus": gpus, "tokens_per_second": speed}
        for case, gpus, speed in [("a", 1, 10.0), ("a", 4, 38.0), ("b", 4, 5.0)]
    ]
    assert [case["efficiency"] for case in with_efficiency(cases)] == [1.0, 0.95, None]


def test_processes_are_started_by_torchrun() -> None:
    command = torchrun(2, "some.module", "--word")
    assert command[1:4] == ["-m", "torch.distributed.run", "--standalone"]
    assert command[4:] == ["--nproc-per-node=2", "-m", "some.module", "--word"]


@pytest.mark.slow
def test_two_processes_are_measured_beside_one(run_measured: Callable[..., dict[str, Any]]) -> None:
    words = ["--gpus", "2", "--batch-size", "2", "--global-batch", "8"]
    written = run_measured(main, *words)
    assert written["left_out"] == []
    accumulated = {(case["case"], case["gpus"]): case["accumulated"] for case in written["cases"]}
    assert len(accumulated) == 12
    assert accumulated["global batch, sequences mixed, Muon replicated", 1] == 4
    assert accumulated["global batch, sequences mixed, Muon replicated", 2] == 2
    assert accumulated["fixed batch, steps mixed, Muon replicated", 2] == 1


@pytest.mark.parametrize(("status", "reason"), [(0, "no time"), (3, "ended with status 3")])
def test_cases_that_are_missing_are_left_out(
    status: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **_: object) -> SimpleNamespace:
        file = Path(json.loads(command[-1])["json"])
        file.write_text(json.dumps([{"case": CASES[0].name}]))
        return SimpleNamespace(returncode=status)

    monkeypatch.setattr(scaling.subprocess, "run", run)
    budget = Budget(minutes=8)
    assert len(measured(2, argparse.Namespace(size="tiny"), 100, budget)) == 1
    assert len(budget.left_out) == len(CASES) - 1
    assert budget.left_out[0].startswith(f"2 GPUs, {CASES[1].name}: {reason}")


@pytest.mark.slow
def test_two_ranks_keep_their_promises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "ranks.json"
    monkeypatch.setattr(sys, "argv", ["ranks", "--device", "cpu", "--ranks", "2", "--json", str(file)])
    with pytest.raises(SystemExit) as end:
        ranks_main()
    written = json.loads(file.read_text())
    assert end.value.code == 0, written
    assert "-9" in written["killed"]["message"]
    assert written["killed"]["seconds_until_the_end"] < 120
    assert written["resumed"]["same_sequences_in_order"]
    assert written["resumed"]["largest_difference_of_weights"] == 0
    assert written["evaluated"]["same_texts"]
