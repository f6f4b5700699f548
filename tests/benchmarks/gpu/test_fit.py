"""The speed of `elf fit` itself is read from what it logs; a run that is missing is named."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.gpu import fit


def test_rates_are_medians_without_the_first_interval(tmp_path: Path) -> None:
    rows = ["step,train/loss,train/mfu,train/tokens_per_second", "0,9,0.1,1", "20,8,,", "40,8,0.2,20"]
    rows += ["60,8,0.5,50", "80,7,0.3,30"]
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "metrics.csv").write_text("\n".join(rows))
    assert fit.logged_rates(tmp_path) == {"tokens_per_second": 30, "mfu": 0.3}


def too_late(*_: Any, timeout: float, **__: Any) -> None:
    raise subprocess.TimeoutExpired("elf", timeout)


def failed(*_: Any, **__: Any) -> SimpleNamespace:
    return SimpleNamespace(returncode=2, stdout="elf fit: no such file")


@pytest.mark.parametrize(("run", "reason"), [(too_late, "stopped after"), (failed, "ended with status 2")])
def test_a_run_that_is_missing_is_left_out(
    run: Callable[..., Any],
    reason: str,
    run_measured: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fit.subprocess, "run", run)
    written = run_measured(fit.main, "--gpus", "2", status=1)
    lines = enumerate(written["left_out"], 1)
    assert all(line.startswith(f"{gpus} GPUs: {reason}") for gpus, line in lines)
    assert len(written["left_out"]) == 2
    assert written["runs"] == []


@pytest.mark.slow
def test_the_command_is_measured_on_one_and_two_devices(run_measured: Callable[..., dict[str, Any]]) -> None:
    one, two = run_measured(fit.main, "--gpus", "2")["runs"]
    assert (one["gpus"], two["gpus"]) == (1, 2)
    assert one["efficiency"] == 1
    assert 0 < two["tokens_per_second"] == pytest.approx(2 * 8 * 16 / two["step_seconds"])
