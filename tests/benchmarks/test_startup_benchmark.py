"""Processes timed beside the import of torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmarks.startup import COMMANDS, TORCH

from benchmarks import startup


def test_all_commands_are_there() -> None:
    for command in COMMANDS.values():
        assert Path(command[0]).exists()


def test_a_command_that_fails_is_no_fast_command() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        startup.execute((sys.executable, "-c", "raise SystemExit(3)"))


def test_times_are_printed_and_written(
    run_measured: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        startup, "COMMANDS", {TORCH: (sys.executable, "-c", ""), "elf --version": (sys.executable, "-c", "")}
    )
    written = run_measured(startup.main)
    assert "elf --version" in capsys.readouterr().out
    assert written["startup"]["elf --version"]["times_import torch"]["median"] > 0
