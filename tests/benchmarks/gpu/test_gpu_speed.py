"""The scripts that measure speed, on the CPU and as small as can be: that they run and reckon rightly."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.batches import random_encoder
from benchmarks.gpu.budget import Budget
from benchmarks.gpu.profile_step import STEP, Span, gaps, largest, waits
from benchmarks.gpu.profile_step import main as profile_main
from benchmarks.gpu.sample import main as sample_main
from benchmarks.gpu.steps import MadeUpRows, Training
from benchmarks.gpu.train import main as train_main
from benchmarks.gpu.train import measured, with_ratios
from benchmarks.gpu.whole_step import Case, cases
from benchmarks.sizes import SIZES

from elf_lightning.network.flops import training_step_flops
from elf_lightning.objectives import ELFObjective
from elf_lightning.optim import MuonSettings

CPU = torch.device("cpu")
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a script at the tiny size; what it has written."""

    def call(main: Callable[[], None], *words: str) -> dict[str, Any]:
        file = tmp_path / "result.json"
        tiny = ["--device", "cpu", "--size", "tiny", "--eager-only", "--rounds", "2"]
        monkeypatch.setattr(sys, "argv", ["script", *tiny, "--json", str(file), *words])
        main()
        return dict(json.loads(file.read_text()))

    return call


def test_training_is_measured(run: Run) -> None:
    written = run(train_main, "--rows", "4")
    assert [case["case"] for case in written["cases"]] == [
        "tiny, 4 rows, eager",
        "tiny, 4 rows, plain, eager",
        "tiny, 4 rows, eager, checkpointing",
    ]
    first = written["cases"][0]
    assert first["tokens_per_second"] == pytest.approx(4 * 16 / first["step_seconds"])
    assert first["flops"] == training_step_flops(SIZES["tiny"].network(), 4, 16, 0.8, 1.6)
    assert {"encode", "optimizer", "average"} < first["parts_seconds"].keys()
    assert written["left_out"] == []


def test_without_time_cases_are_left_out(run: Run) -> None:
    written = run(train_main, "--minutes", "0.01")
    assert written["cases"] == []
    assert len(written["left_out"]) == 3


def test_training_with_and_without_checkpointing_is_the_same(tmp_path: Path) -> None:
    encoder = random_encoder(SIZES["tiny"], str(tmp_path), CPU)
    one, other = (
        measured(Case("tiny", 4, compiled=False, checkpointing=way), encoder, CPU, 1) for way in (False, True)
    )
    assert one["flops"] == other["flops"]
    assert not other["parts_seconds"]


def test_speed_is_against_the_plain_way_compiled_at_as_many_rows() -> None:
    lines = [
        {"size": "a", "rows": rows, "plain": plain, "compiled": compiled, "tokens_per_second": speed}
        for rows, plain, compiled, speed in [
            (8, False, True, 30.0),
            (8, True, True, 15.0),
            (8, True, False, 10.0),
            (4, False, True, 9.0),
        ]
    ]
    assert [line["times_plain"] for line in with_ratios(lines)] == [2.0, 1.0, pytest.approx(2 / 3), None]


def test_the_most_telling_cases_come_first() -> None:
    names = [case.name for case in cases("elf-b", 64)]
    assert names[:2] == ["elf-b, 64 rows, compiled", "elf-b, 64 rows, plain, compiled"]
    assert "elf-b, 16 rows, compiled" in names
    assert names[-1] == "elf-l, 16 rows, compiled, checkpointing"
    assert len(names) == len(set(names))


def test_accumulated_micro_batches_are_one_step() -> None:
    size, objective = SIZES["tiny"], ELFObjective()
    rows = MadeUpRows(size, CPU)
    training = Training(size.network(), objective, MuonSettings(), rows=8, mixed=False)
    before = training.network.blocks[0].mlp.out.weight.clone()
    training(rows(4, 0), rows(4, 1))
    assert (training.steps, training.micro_batches) == (1, 2)
    assert not torch.equal(before, training.network.blocks[0].mlp.out.weight)
    assert all(p.grad is None for p in training.network.parameters())


def test_sampling_is_measured(run: Run) -> None:
    written = run(sample_main, "--rows", "2", "--steps", "2")
    assert set(written["groups"]) == {"eager"}
    assert set(written["groups"]["eager"]) == {"plain", "plain, one head", "sampler"}


def test_a_step_is_profiled(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as end:
        run(profile_main, "--rows", "4", "--steps", "1")
    assert end.value.code == 0


def test_kernels_gaps_and_waits() -> None:
    kernels = [Span("a", 0, 1000), Span("b", 1500, 2000), Span("a", 1800, 4000), Span("c", 4000, 4100)]
    assert largest(kernels, 2) == [("a", 3.2, 2), ("b", 0.5, 1)]
    assert gaps(kernels) == {"idle_ms": 0.5, "idle_share": 500 / 4100, "longest_ms": 0.5}
    steps = [Span(STEP, 0, 100), Span(STEP, 200, 300)]
    calls = [
        Span("cudaStreamSynchronize", 50, 60),
        Span("cudaStreamSynchronize", 150, 160),
        Span("Memcpy DtoH (Device -> Pageable)", 250, 260),
        Span("cudaLaunchKernel", 260, 270),
    ]
    assert waits(calls, steps) == ["cudaStreamSynchronize", "Memcpy DtoH (Device -> Pageable)"]


def test_a_budget_counts_what_something_takes() -> None:
    budget = Budget(minutes=1)
    assert budget.allows("short", 30)
    assert not budget.allows("long", 90)
    assert budget.left_out == ["long: no time"]
