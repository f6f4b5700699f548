"""The door: help, versions and unknown words."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from elf_lightning import __version__
from elf_lightning.cli import main


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for command in ("fit", "validate", "test", "predict", "sample", "convert", "plan", "prepare"):
        assert f"\n  {command} " in shown


@pytest.mark.parametrize(
    ("command", "told"),
    [("plan", "Rows that are not prepared yet are prepared first"), ("prepare", "with --embed, write")],
)
def test_commands_in_place_of_fit_say_what_they_do(
    command: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert told in " ".join(capsys.readouterr().out.split())


def test_no_words_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "\n  fit " in capsys.readouterr().err


def test_unknown_words_are_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fot"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("elf: ")


def test_a_reader_that_leaves_is_no_error() -> None:
    listing = subprocess.Popen(
        [sys.executable, "-m", "elf_lightning", "config", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert listing.stdout is not None
    listing.stdout.close()
    _, complaint = listing.communicate()
    assert (listing.returncode, complaint) == (128 + signal.SIGPIPE, "")


def test_other_broken_pipes_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(words: list[str]) -> None:
        raise BrokenPipeError("of a worker")

    monkeypatch.setattr("elf_lightning.cli.config.run", breaks)
    with pytest.raises(BrokenPipeError, match="of a worker"):
        main(["config", "list"])


def test_the_module_is_the_command() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "elf_lightning", "--version"], capture_output=True, text=True, check=True
    )
    assert shown.stdout == f"elf_lightning {__version__}\n"
