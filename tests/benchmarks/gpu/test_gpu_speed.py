"""The scripts that measure speed, on the CPU and as small as can be: they run and calculate correctly."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from benchmarks.batches import random_encoder
from benchmarks.gpu.__main__ import main as all_main
from benchmarks.gpu.profile import STEP, gaps, kernels, largest, waits
from benchmarks.gpu.profile import main as profile_main
from benchmarks.gpu.train import Case, cases, measured, speed_table
from benchmarks.gpu.train import main as train_main
from benchmarks.sizes import SIZES
from torch.profiler import DeviceType

from benchmarks.gpu import __main__ as runner
from elf_lightning.network.flops import training_step_flops

CPU = torch.device("cpu")
Measured = Callable[..., dict[str, Any]]


def test_training_is_measured(run_measured: Measured) -> None:
    written = run_measured(train_main, "--batch-size", "4", "--eager-only")
    names = [case["case"] for case in written["cases"]]
    assert names == ["tiny, 4 sequences, baseline, eager", "tiny, 4 sequences, eager"]
    ours = written["cases"][1]
    assert ours["tokens_per_second"] == pytest.approx(4 * 16 / ours["step_seconds"])
    assert ours["flops"] == training_step_flops(SIZES["tiny"].network(), 4, 16, 0.8, 1.6)
    assert {"encode", "optimizer", "average"} < ours["parts_seconds"].keys()
    assert len(written["left_out"]) == 2


def test_without_time_cases_are_left_out(run_measured: Measured) -> None:
    written = run_measured(train_main, "--minutes", "0.01")
    assert written["cases"] == []
    assert len(written["left_out"]) == 4


def test_training_with_and_without_checkpointing_is_the_same(tmp_path: Path) -> None:
    encoder = random_encoder(SIZES["tiny"], str(tmp_path), CPU)
    one, other = (measured_case(encoder, checkpointing) for checkpointing in (False, True))
    assert one["flops"] == other["flops"]
    assert not other["parts_seconds"]


def measured_case(encoder: Any, checkpointing: bool) -> dict[str, Any]:
    return measured(Case("tiny", 4, compiled=False, checkpointing=checkpointing), encoder, CPU, 1)


def test_speed_is_compared_with_both_baselines_at_the_same_batch_size() -> None:
    lines = [
        {"case": "", "size": "a", "batch_size": batch, "baseline": baseline, "compiled": compiled}
        | {"tokens_per_second": speed, "step_seconds": 1.0, "mfu": None, "peak_bytes": None}
        for batch, baseline, compiled, speed in [
            (8, False, True, 30.0), (8, True, True, 15.0), (8, True, False, 10.0), (4, False, True, 9.0)
        ]
    ]  # fmt: skip
    speed_table(lines)
    assert [line["times_baseline"] for line in lines] == [3.0, 1.5, 1.0, None]
    assert [line["times_baseline_compiled"] for line in lines] == [2.0, 1.0, pytest.approx(2 / 3), None]


def test_two_tables_have_all_cases() -> None:
    main, more = ([case.name for case in cases(table, "elf-b", 64)] for table in ("main", "more"))
    assert main[0] == "elf-b, 64 sequences, compiled"
    assert {"elf-b, 64 sequences, baseline, eager", "elf-b, 64 sequences, baseline, compiled"} < set(main)
    assert {"elf-b, 16 sequences, compiled", "elf-m, 32 sequences, compiled"} < set(more)
    assert len(main + more) == len(set(main + more))


def test_batch_sizes_share_compiled_graphs() -> None:
    assert Case("elf-b", 16).graphs == Case("elf-b", 64).graphs
    assert Case("elf-b", 16).graphs != Case("elf-b", 16, checkpointing=True).graphs


def test_a_step_is_profiled(run_measured: Measured) -> None:
    written = run_measured(profile_main, "--batch-size", "4", "--steps", "1", "--eager-only")
    assert written["eager"]["waits"] == []
    names = [kernel["name"] for kernel in written["eager"]["kernels"]]
    assert len(names) == 5
    assert not any("step" in name for name in names)
    assert written["left_out"] == ["compiled: not compiled"]


def event(name: str, start: float, end: float, cuda: bool = True, region: bool = False) -> SimpleNamespace:
    span = SimpleNamespace(start=start, end=end, elapsed_us=lambda: end - start)
    kind = DeviceType.CUDA if cuda else DeviceType.CPU
    return SimpleNamespace(
        name=name, time_range=span, device_type=kind, is_user_annotation=region, cpu_children=[]
    )


def test_regions_are_no_kernels() -> None:
    events = [
        event("Optimizer.step#Muon.step", 0, 900, cuda=False, region=True),
        event("Optimizer.step#Muon.step", 100, 1000),  # the same region, as the device shows it
        event("gemm", 100, 500),
        event("aten::mm", 0, 50, cuda=False),
    ]
    assert [kernel.name for kernel in kernels(events, cuda=True)] == ["gemm"]
    assert [kernel.name for kernel in kernels(events, cuda=False)] == ["aten::mm"]


def test_kernels_and_gaps() -> None:
    found = [event("a", 0, 1000), event("b", 1500, 2000), event("a", 1800, 4000), event("c", 4000, 4100)]
    assert [(one["name"], one["ms"], one["times"]) for one in largest(found, 1, 2)] == [
        ("a", 3.2, 2),
        ("b", 0.5, 1),
    ]
    assert gaps(found) == {"idle_ms": 0.5, "idle_share": 500 / 4100, "longest_ms": 0.5}


def test_waits_inside_steps_are_found() -> None:
    steps = [event(STEP, 0, 100, cuda=False), event(STEP, 200, 300, cuda=False)]
    calls = [
        event("cudaStreamSynchronize", 50, 60, cuda=False),
        event("cudaStreamSynchronize", 150, 160, cuda=False),
        event("Memcpy DtoH (Device -> Pageable)", 250, 260),
        event("cudaLaunchKernel", 260, 270, cuda=False),
    ]
    assert waits([*steps, *calls]) == ["cudaStreamSynchronize", "Memcpy DtoH (Device -> Pageable)"]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that `benchmarks.gpu` starts; in their place, something was left out."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> SimpleNamespace:
        commands.append(command)
        file = Path(next(word for word in command if word.startswith("--json=")).split("=")[1])
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"left_out": ["something: no time"]}))
        return SimpleNamespace(returncode=1 if "profile" in file.name else 0)

    monkeypatch.setattr(runner.subprocess, "run", run)
    return commands


def test_one_call_runs_everything_within_its_minutes(
    started: list[list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["all", "--minutes", "9", "--output", str(tmp_path), "--size", "tiny"]
    monkeypatch.setattr(sys, "argv", ["gpu", *words])
    with pytest.raises(SystemExit, match="profile: ended with status 1"):
        all_main()
    modules = [command[2] for command in started]
    assert modules == [
        "benchmarks.gpu.golden",
        "benchmarks.gpu.train",
        "benchmarks.sample",
        "benchmarks.gpu.profile",
    ]
    assert all(command[-2:] == ["--size", "tiny"] for command in started)
    minutes = [float(word.split("=")[1]) for command in started for word in command if "--minutes=" in word]
    assert minutes[0] == pytest.approx(9 * 2 / 9 - 0.25, abs=0.01)
    assert minutes[-1] <= 9
    assert "golden: something: no time" in capsys.readouterr().out


def test_without_time_nothing_is_started(
    started: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["gpu", "golden", "profile", "--minutes", "0.1", "--output", str(tmp_path)]
    )
    with pytest.raises(SystemExit, match=r"golden: no time\nprofile: no time"):
        all_main()
    assert started == []
