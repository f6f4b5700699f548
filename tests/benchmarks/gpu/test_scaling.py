"""Two processes over gloo: speeds are measured, and the promises to a user of several GPUs are kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from benchmarks.gpu.ranks import main as ranks_main
from benchmarks.gpu.scaling import main, numbers, torchrun, with_efficiency


@pytest.mark.parametrize(("gpus", "planned"), [(1, [1]), (2, [1, 2]), (8, [1, 2, 4, 8]), (6, [1, 2, 4, 6])])
def test_numbers_of_gpus(gpus: int, planned: list[int]) -> None:
    assert numbers(gpus) == planned


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


def test_two_processes_are_measured_beside_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "scaling.json"
    words = ["--device", "cpu", "--size", "tiny", "--gpus", "2", "--rows", "2", "--global-rows", "8"]
    monkeypatch.setattr(sys, "argv", ["scaling", *words, "--rounds", "1", "--json", str(file)])
    main()
    written = json.loads(file.read_text())
    assert written["left_out"] == []
    accumulated = {(case["case"], case["gpus"]): case["accumulated"] for case in written["cases"]}
    assert len(accumulated) == 12
    assert accumulated["global batch, rows mixed, Muon replicated", 1] == 4
    assert accumulated["global batch, rows mixed, Muon replicated", 2] == 2
    assert accumulated["fixed rows, steps mixed, Muon replicated", 2] == 1


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
    assert written["resumed"]["same_rows_in_order"]
    assert written["resumed"]["largest_difference_of_weights"] == 0
    assert written["evaluated"]["same_texts"]
