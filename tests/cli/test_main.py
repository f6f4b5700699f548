"""Help, version and unknown commands."""

from __future__ import annotations

import re
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
    ("command", "expected"),
    [
        ("plan", "the corpus is downloaded and tokenised first"),
        ("prepare", "with --embed, write"),
        ("latent-stats", "Path/URL of the checkpoint from which training is resumed"),  # as of `fit`
    ],
)
def test_commands_that_do_not_train_describe_themselves_and_their_options(
    command: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert expected in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_the_short_help_of_training_fits_on_a_screen_of_80_columns(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 40
    assert max(map(len, lines)) < 80
    assert f"  elf {command} --help-all" in "\n".join(lines)


def test_every_setting_of_the_short_help_is_in_the_whole(capsys: pytest.CaptureFixture[str]) -> None:
    main(["fit", "--help"])
    named = set(re.findall(r"--[\w.]+", capsys.readouterr().out)) - {"--SETTING", "--help"}
    of_classes = {"--data.source.path", "--model.optimizer.base_learning_rate"}
    with pytest.raises(SystemExit):
        main(["fit", "--help-all"])
    whole = capsys.readouterr().out
    assert {name for name in named if name not in whole} == of_classes


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "\n  fit " in capsys.readouterr().err


def test_an_unknown_command_is_reported_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fot"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("elf: ")


def test_a_closed_pipe_is_not_an_error() -> None:
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


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device", "runs/a/x"), "'runs/a/x' cannot be written: No space left"),
        (OSError(30, "Read-only file system", "runs"), "'runs' cannot be written: Read-only file system"),
        (PermissionError(13, "Permission denied", "runs"), "'runs' cannot be written: Permission denied"),
        (FileExistsError(17, "File exists", "runs"), "'runs' cannot be written: Not a directory"),
    ],
    ids=str,
)
def test_what_no_command_expects_of_a_disk_is_one_line(
    error: OSError, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(words: list[str]) -> None:
        raise RuntimeError("of a package") from error

    monkeypatch.setattr("elf_lightning.cli.config.run", fails)
    assert main(["config", "list"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"elf config: {told}")
    error.errno = 5
    with pytest.raises(RuntimeError, match="of a package"):
        main(["config", "list"])


def test_the_module_is_the_command() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "elf_lightning", "--version"], capture_output=True, text=True, check=True
    )
    assert shown.stdout == f"elf_lightning {__version__}\n"


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("--max_steps 3", "--trainer.max_steps"),
        ("--trainer.max_stepps=3", "--trainer.max_steps"),
        ("--source.path texts", "--data.source.path"),
        ("--sampling.steps 3", "--model.sampling.steps"),
        ("--checkpoint runs/mine", "--ckpt_path"),
        ("--model.sampling.stepps 3", "--model.sampling.steps"),
    ],
)
def test_an_option_that_is_nearly_right_is_shown_as_it_should_be(
    words: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", "quickstart", *words.split()]) == 2
    assert capsys.readouterr().err.endswith(f"lists the settings (did you mean {meant}?)\n")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "--data.source.path texts --data.source.document paragraph",
            "data.source.document: paragraph is none of 'file', 'line', 'block';",
        ),
        ("--trainer.max_steps many", "trainer.max_steps: many is not of type int;"),
        ("--trainer.limit_val_batches x", "trainer.limit_val_batches: x is not of type int, float, null;"),
        ("--model.sampling.gamma_end much", "model.sampling.gamma_end: much is not of type float, null;"),
        ('--model.evaluation.settings [{"steps":"x"}]', "evaluation.settings.steps: x is not of type int;"),
        ("--model.sampling 3", "model.sampling takes settings, not the value 3;"),
    ],
)
def test_a_value_of_the_wrong_kind_is_shown_with_what_it_may_be(
    words: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", "own_texts", *words.split()]) == 2
    assert expected in capsys.readouterr().err


def test_one_batch_is_not_all_batches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(
            [
                "plan",
                "--trainer.limit_val_batches",
                "1",
                "--trainer.limit_train_batches=0.5",
                "--print_config",
            ]
        )
    settings = capsys.readouterr().out
    assert "\n  limit_val_batches: 1\n" in settings
    assert "\n  limit_train_batches: 0.5\n" in settings
