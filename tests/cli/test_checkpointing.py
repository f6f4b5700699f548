"""The checkpoints that a run leaves in its folder, and what `runs/NAME` means afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from elf_lightning.checkpoints import load_model
from elf_lightning.cli import main

FOLDER = Path("runs/tiny/checkpoints")


def names(folder: Path = FOLDER) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def step(path: Path = FOLDER / "last.ckpt") -> int:
    return int(torch.load(path, weights_only=True)["global_step"])


def fit(config: str, *words: str) -> None:
    assert main(["fit", "--config", config, *words]) == 0


def of_steps(steps: int) -> tuple[str, ...]:
    return ("--trainer.max_steps", str(steps))


def own_callback(**settings: Any) -> dict[str, Any]:
    saver = {"class_path": "ModelCheckpoint", "init_args": {"filename": "own-{step}", **settings}}
    return {"trainer__callbacks": [{"class_path": "EMA"}, saver]}


def test_last_is_the_state_of_the_last_run_of_a_name(write_config: Callable[..., str]) -> None:
    config = write_config(trainer__val_check_interval=1)
    fit(config, *of_steps(3))
    fit(config, *of_steps(2), "--seed_everything", "5")
    assert not [name for name in names() if name.startswith("last-")]
    newer = torch.load(FOLDER / "last.ckpt", weights_only=True)
    assert (newer["global_step"], newer["fit"]) == (2, 2)
    assert load_model("runs/tiny").config.step == 2
    assert step(FOLDER / "step-3.ckpt") == 3, "what an earlier run has left is not lost"
    fit(config, *of_steps(4), "--seed_everything", "5", "--ckpt_path", str(FOLDER / "last.ckpt"))
    assert step() == 4


@pytest.mark.parametrize("links_kept", [True, False])
def test_a_copied_folder_goes_on_in_place(write_config: Callable[..., str], links_kept: bool) -> None:
    config = write_config()
    fit(config)
    shutil.copytree("runs/tiny", "runs/copy", symlinks=links_kept)
    copied = Path("runs/copy/checkpoints")
    fit(config, *of_steps(9), "--name", "copy", "--ckpt_path", "runs/copy")
    assert step(copied / "last.ckpt") == 9
    assert (copied / "last.ckpt").is_symlink()
    assert {"last.ckpt", "step-9.ckpt"} <= {*names(copied)} <= {"last.ckpt", "step-6.ckpt", "step-9.ckpt"}
    assert step() == 6


def test_a_moved_folder_keeps_no_outdated_file(write_config: Callable[..., str]) -> None:
    config = write_config()
    fit(config)
    Path("runs/tiny").rename("runs/moved")
    fit(config, *of_steps(9), "--name", "moved", "--ckpt_path", "runs/moved")
    assert names(Path("runs/moved/checkpoints")) == ["last.ckpt", "step-9.ckpt"]


def test_a_killed_save_leaves_nothing_that_stays(write_config: Callable[..., str]) -> None:
    config = write_config(trainer__max_steps=3)
    fit(config)
    left = FOLDER / ".step-6.ckpt.123.incomplete"
    left.write_bytes(b"half of it")
    (FOLDER / "last.ckpt").unlink()  # killed just before it was linked
    assert load_model("runs/tiny").config.step == 3
    fit(config, *of_steps(6), "--ckpt_path", "runs/tiny")
    assert names() == ["last.ckpt", "step-6.ckpt"]


@pytest.mark.parametrize("given", ["runs/tiny", "runs/tiny/checkpoints/last.ckpt"])
def test_a_damaged_newest_is_passed_over(
    write_config: Callable[..., str], caplog: pytest.LogCaptureFixture, given: str
) -> None:
    config = write_config(trainer__max_steps=3)
    fit(config)
    (FOLDER / "step-6.ckpt").write_bytes((FOLDER / "step-3.ckpt").read_bytes()[:-900])
    (FOLDER / "last.ckpt").unlink()
    (FOLDER / "last.ckpt").symlink_to("step-6.ckpt")
    fit(config, *of_steps(5), "--ckpt_path", given)
    assert "passed over 'runs/tiny/checkpoints/step-6.ckpt'" in caplog.text
    assert step() == 5


@pytest.mark.parametrize(
    "settings",
    [
        {"every_n_train_steps": 2, "save_last": True},
        {"monitor": "val/loss", "save_last": "link"},
        {"every_n_epochs": 100},
        {"save_top_k": 0, "save_last": True},
        {"every_n_train_steps": 2, "save_weights_only": True},
    ],
)
def test_the_latest_state_is_saved_beside_own_checkpoints(
    write_config: Callable[..., str], settings: dict[str, Any]
) -> None:
    fit(write_config(trainer__max_steps=5, **own_callback(**settings)))
    assert step() == 5
    assert not [name for name in names() if "last-v" in name]
    assert "optimizer_states" in torch.load(FOLDER / "last.ckpt", weights_only=True)


def test_a_run_that_continues_from_an_own_checkpoint_keeps_it(write_config: Callable[..., str]) -> None:
    config = write_config(**own_callback(every_n_train_steps=1, save_top_k=-1))
    fit(config, *of_steps(2))
    (FOLDER / "step-2.ckpt").unlink()  # killed before it was written
    fit(config, *of_steps(3), "--ckpt_path", "runs/tiny")
    assert {"own-step=1.ckpt", "own-step=2.ckpt", "own-step=3.ckpt", "step-3.ckpt"} <= {*names()}


def test_a_trial_run_leaves_no_checkpoint_and_needs_no_shorter_warm_up(
    write_config: Callable[..., str],
) -> None:
    config = write_config(model__schedule={"warmup_steps": 40}, **own_callback(save_last=True))
    fit(config, "--trainer.fast_dev_run", "true")
    assert not [*Path().rglob("*.ckpt")]


def test_a_run_that_saves_nothing_says_nothing_of_an_earlier_checkpoint(
    write_config: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config()
    fit(config, *of_steps(3))
    assert "saved    " in capsys.readouterr().out
    for option in ("--trainer.fast_dev_run=true", "--trainer.enable_checkpointing=false"):
        fit(config, option, *of_steps(1))
        assert "saved    " not in capsys.readouterr().out


def test_a_full_disk_is_one_line_with_the_last_good_checkpoint(
    write_config: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    save = torch.save

    def full(content: Any, file: Any, **options: Any) -> None:
        if getattr(file, "name", None) and content["global_step"] == 6:
            raise OSError(28, "No space left on device")
        save(content, file, **options)

    monkeypatch.setattr(torch, "save", full)
    assert main(["fit", "--config", write_config()]) == 2
    (line,) = (line for line in capfd.readouterr().err.splitlines() if line.startswith("elf fit: "))
    assert "step-6.ckpt' cannot be written: No space left on device (" in line
    assert "MB needed, " in line and "MB free)" in line
    assert "the last good checkpoint is" in line and "step-3.ckpt" in line
    assert names() == ["last.ckpt", "step-3.ckpt"]


def test_a_requeued_job_continues(
    write_config: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    monkeypatch.setattr("elf_lightning.cli.trainer.SLURMEnvironment", SimpleNamespace(detect=lambda: True))
    fit(config, *of_steps(3))
    fit(config)
    assert "resumed  at step 3" in capsys.readouterr().out
