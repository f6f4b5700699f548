"""Processes timed beside the import of torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.startup import COMMANDS, TORCH

from benchmarks import startup


def test_all_commands_are_there() -> None:
    for command in COMMANDS.values():
        assert Path(command[0]).exists()


def test_a_command_that_fails_is_no_fast_command() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        startup.run((sys.executable, "-c", "raise SystemExit(3)"))


def test_times_are_printed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        startup, "COMMANDS", {TORCH: (sys.executable, "-c", ""), "elf --version": COMMANDS["elf --help"]}
    )
    file = tmp_path / "startup.json"
    monkeypatch.setattr(sys, "argv", ["startup", "--rounds", "1", "--json", str(file)])
    startup.main()
    assert "elf --version" in capsys.readouterr().out
    assert json.loads(file.read_text())["startup"]["elf --version"]["times_import torch"]["median"] > 0
