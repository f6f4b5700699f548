"""The speed of `elf fit` itself is read from what it logs; a run that is missing is named."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmarks.sizes import SIZES

from benchmarks.gpu import fit

Executable = Callable[[str], None]


@pytest.fixture
def executable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Executable:
    """Puts a shell script in the place of Python."""

    def replace(script: str) -> None:
        file = tmp_path / "python"
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(file))

    return replace


def test_rates_are_medians_without_the_first_interval(tmp_path: Path) -> None:
    rows = ["step,train/loss,train/mfu,train/tokens_per_second", "49,9,0.1,1", "60,8,,", "99,8,0.2,20"]
    rows += ["149,8,0.5,50", "199,7,0.3,30"]
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "metrics.csv").write_text("\n".join(rows))
    assert fit.logged_rates(tmp_path) == {"tokens_per_second": 30, "mfu": 0.3}
    (tmp_path / "csv" / "metrics.csv").write_text("\n".join(rows[:3]))
    assert fit.logged_rates(tmp_path) == {}


@pytest.mark.parametrize("status", [0, 2])
def test_a_run_without_rates_is_left_out_with_what_it_said(
    status: int,
    executable: Executable,
    run_measured: Callable[..., dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    executable(f"echo elf fit: what is wrong; exit {status}")
    written = run_measured(fit.main, "--gpus", "2", status=1)
    reason = f"ended with status {status}, without rates; see above"
    assert written["left_out"] == [f"1 GPUs: {reason}", f"2 GPUs: {reason}"]
    assert written["runs"] == []
    assert capsys.readouterr().out.count("elf fit: what is wrong") == 2


@pytest.mark.parametrize("words", [[], ["--no-graphs"]])
def test_the_command_trains_with_cuda_graphs_unless_told_otherwise(
    words: list[str],
    executable: Executable,
    run_measured: Callable[..., dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    executable('cat "$5"; exit 2')  # its configuration
    run_measured(fit.main, "--gpus", "1", *words, status=1)
    assert f'"cuda_graphs": {"false" if words else "true"}' in capsys.readouterr().out


def test_a_run_over_its_time_is_ended_with_the_processes_it_has_started(
    executable: Executable, tmp_path: Path
) -> None:
    executable("sleep 100 & echo $! > rank; wait")
    with pytest.MonkeyPatch.context() as folder:
        folder.chdir(tmp_path)
        found = fit.measured(SIZES["tiny"], tmp_path, gpus=2, settings={}, seconds=1)
    assert found == {"reason": "stopped after 1 s, without rates; see above"}
    state = Path("/proc") / (tmp_path / "rank").read_text().strip() / "status"
    deadline = time.monotonic() + 10  # a killed process may run on for a moment
    while is_running(state) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(state)


def is_running(state: Path) -> bool:
    try:
        return "zombie" not in state.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_nothing_is_started_without_time(
    executable: Executable, run_measured: Callable[..., dict[str, Any]]
) -> None:
    executable("exit 2")
    written = run_measured(fit.main, "--gpus", "1", "--minutes", "0.5", status=1)
    assert written["left_out"] == ["1 GPUs: no time"]


@pytest.mark.slow
def test_the_command_is_measured_on_one_and_two_devices(run_measured: Callable[..., dict[str, Any]]) -> None:
    one, two = run_measured(fit.main, "--gpus", "2")["runs"]
    assert (one["gpus"], two["gpus"]) == (1, 2)
    assert one["efficiency"] == 1
    assert 0 < two["tokens_per_second"] == pytest.approx(2 * 8 * 16 / two["step_seconds"])
