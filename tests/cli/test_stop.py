"""Signals end a run with a checkpoint, one line, and a status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from elf_lightning.cli import main

LAST = "runs/tiny/checkpoints/last.ckpt"


@pytest.fixture(autouse=True)
def _hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "training")  # for `run_hooks`


def stopping(step: int, how: str) -> dict[str, Any]:
    stop = {"class_path": "run_hooks.StopAfter", "init_args": {"step": step, "how": how}}
    return {"trainer__callbacks": [{"class_path": "EMA"}, stop]}


@pytest.mark.parametrize(
    ("how", "status"),
    [("SIGTERM", 143), ("SIGUSR1", 143), ("SIGINT", 130), ("SIGTERM in validation", 143)],
)
def test_a_signal_ends_training_with_a_checkpoint_and_one_line(
    write_config: Callable[..., str], capfd: pytest.CaptureFixture[str], how: str, status: int
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    config = write_config(**stopping(3 if "validation" in how else 4, how))
    capfd.readouterr()
    assert main(["fit", "--config", config]) == status
    error = capfd.readouterr().err
    expected = f"elf fit: stopped by {how.split()[0]}; continue with --ckpt_path {LAST}"
    assert [line for line in error.splitlines() if "stopped" in line] == [expected]
    assert torch.load(LAST, weights_only=True)["global_step"] == (3 if "validation" in how else 4)
    assert signal.getsignal(signal.SIGTERM) == before


def test_without_checkpoints_the_line_says_so(
    write_config: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    config = write_config(**stopping(4, "SIGTERM"), trainer__enable_checkpointing=False)
    assert main(["fit", "--config", config]) == 143
    assert "elf fit: stopped by SIGTERM; no checkpoint was saved\n" in capfd.readouterr().err


@pytest.mark.parametrize("command", ["validate", "predict"])
def test_other_commands_end_at_once(
    write_config: Callable[..., str], capfd: pytest.CaptureFixture[str], command: str
) -> None:
    assert main(["fit", "--config", write_config(trainer__max_steps=1, trainer__val_check_interval=1)]) == 0
    how = "SIGTERM in validation" if command == "validate" else "SIGTERM in prediction"
    config = write_config(**stopping(0, how))
    before = Path(LAST).resolve()
    assert main([command, "--config", config, "--ckpt_path", LAST]) == 143
    assert f"elf {command}: stopped by SIGTERM\n" in capfd.readouterr().err
    assert Path(LAST).resolve() == before


def test_slurm_is_asked_to_start_the_job_again(
    write_config: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr("elf_lightning.cli.trainer.subprocess.run", lambda words, check: asked.append(words))
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setattr("elf_lightning.cli.trainer.SLURMEnvironment", SimpleNamespace(detect=lambda: True))
    for how, expected in (("SIGTERM", []), ("SIGUSR1", [["scontrol", "requeue", "17"]])):
        assert main(["fit", "--config", write_config(**stopping(2, how))]) == 143
        assert asked == expected


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("everyone", [True, False])
def test_two_ranks_end_together(
    write_config: Callable[..., str], signum: signal.Signals, everyone: bool
) -> None:
    """Whether a terminal signals all processes, workers included, or a scheduler only the first."""
    config = write_config(trainer__max_steps=-1, trainer__max_epochs=-1, data__num_workers=1)
    two = ("--trainer.devices", "2", "--trainer.strategy", "ddp")
    with Path("err").open("w") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "elf_lightning", "fit", "--config", config, *two],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=err,
            start_new_session=True,
        )
        while not Path(LAST).exists():
            assert process.poll() is None, Path("err").read_text()
            time.sleep(0.1)
        (os.killpg if everyone else os.kill)(process.pid, signum)
        assert process.wait(timeout=60) == (130 if signum == signal.SIGINT else 143)
    text = Path("err").read_text()
    assert text.count("stopped by") == 1
    assert "Traceback" not in text
    assert torch.load(LAST, weights_only=True)["global_step"] > 0
