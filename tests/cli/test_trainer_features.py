"""Features of Lightning's Trainer work in a run, or are refused in one line."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import DummyLogger
from tensorboard.summary.writer.record_writer import RecordWriter

from elf_lightning.checkpoints import load_model
from elf_lightning.cli import main
from elf_lightning.data import ELFDataModule

EVERY_STEP = {
    "every_n_train_steps": 1,
    "save_top_k": -1,
    "filename": "s{step}",
    "auto_insert_metric_name": False,
}


def one(class_path: str, **settings: Any) -> dict[str, Any]:
    return {"class_path": class_path, "init_args": settings}


@pytest.fixture
def fit(write_config: Callable[..., str]) -> Callable[..., int]:
    """Trains for a few steps, in runs/NAME."""

    def run(name: str, *words: str, **changes: Any) -> int:
        config = write_config(
            name=name, **{"trainer__max_steps": 3, "trainer__limit_val_batches": 1} | changes
        )
        return main(["fit", "--config", config, *words])

    return run


@pytest.fixture
def refusal(fit: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line with which a run is refused."""

    def run(*words: str, **changes: Any) -> str:
        capfd.readouterr()
        assert fit("refused", *words, **changes) == 2
        (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("elf fit: ")]
        return line.removeprefix("elf fit: ")

    return run


def losses(name: str) -> dict[int, str]:
    """The logged training losses by step."""
    with Path(f"runs/{name}/csv/version_0/metrics.csv").open() as file:
        return {int(row["step"]): row["train/loss"] for row in csv.DictReader(file) if row["train/loss"]}


def test_validation_may_go_by_time(fit: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> None:
    assert fit("timed", trainer__val_check_interval="00:00:00:01") == 0
    assert "data     " in capfd.readouterr().out, "the plan"
    assert Path("runs/timed/checkpoints/last.ckpt").exists()


def test_a_resumed_run_has_all_of_its_max_time(
    fit: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Timer, "state_dict", lambda self: {"time_elapsed": {"train": 1e6}})
    limit = ["--trainer.max_time", "00:01:00:00"]
    assert fit("timed", *limit) == 0
    assert fit("timed", *limit, "--ckpt_path", "runs/timed", trainer__max_steps=5) == 0
    assert load_model("runs/timed").config.step == 5


def test_a_timer_of_ones_own_keeps_its_duration(
    fit: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    timer = json.dumps(one("Timer", duration="00:00:00:00", interval="step"))
    for limit in ([], ["--trainer.max_time", "00:01:00:00"]):  # which Lightning then ignores
        assert fit("timed", "--trainer.callbacks+", timer, *limit) == 0
        assert "Time limit reached" in caplog.text
        caplog.clear()


def test_a_second_run_of_a_name_says_where_it_writes(
    fit: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    assert fit("again") == 0
    assert "earlier run" not in capfd.readouterr().out
    assert fit("again") == 0
    assert "folder   runs/again has checkpoints of an earlier run, which stay;" in capfd.readouterr().out
    assert fit("again", "--ckpt_path", "runs/again", trainer__max_steps=4) == 0
    assert "earlier run" not in capfd.readouterr().out


def test_a_wrong_option_of_a_class_lists_the_right_ones(refusal: Callable[..., str]) -> None:
    line = refusal("--model.optimizer.bets", "0.9")
    assert line.startswith(
        "model.optimizer: Option 'bets' is not accepted; MuonSettings has base_learning_rate,"
    )
    assert ", betas," in line


def test_a_logger_without_a_folder_says_what_is_missing(refusal: Callable[..., str]) -> None:
    line = refusal("--trainer.logger", "lightning.pytorch.loggers.CSVLogger")
    assert line.startswith("trainer.logger: the following arguments are required: save_dir; `elf fit")


def test_one_callback_needs_no_list(fit: Callable[..., int], caplog: pytest.LogCaptureFixture) -> None:
    assert fit("one", trainer__callbacks=one("EarlyStopping", monitor="val/loss")) == 0
    assert "trainer.callbacks leaves out EMA: weights are not averaged" in caplog.text
    caplog.clear()
    assert fit("averaged", "--trainer.callbacks+", json.dumps(one("EarlyStopping", monitor="val/loss"))) == 0
    assert "leaves out EMA" not in caplog.text


def test_barebones_needs_no_other_setting(fit: Callable[..., int]) -> None:
    assert fit("bare", "--trainer.barebones", "true", "--trainer.log_every_n_steps", "null") == 0
    assert [path.name for path in Path("runs/bare").iterdir()] == ["config.yaml"]


def test_preparing_takes_any_validation_interval(write_config: Callable[..., str]) -> None:
    assert main(["prepare", "--config", write_config(trainer__val_check_interval=10_000)]) == 0


def test_metrics_with_a_slash_in_the_name_of_a_checkpoint(fit: Callable[..., int]) -> None:
    best = one("ModelCheckpoint", monitor="val/loss", filename="{step}-{val/loss:.2f}")
    assert fit("slash", trainer__callbacks=[one("EMA"), best], trainer__val_check_interval=3) == 0
    (file,) = Path("runs/slash/checkpoints").glob("step=3-val_loss=*.ckpt")
    assert file.parent.name == "checkpoints"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--seed_everything", "5000000000"], "--seed_everything 5000000000: give 0 to 4294967295"),
        (["--seed_everything", "-1"], "--seed_everything -1: give 0 to 4294967295"),
        (["--trainer.logger", "CometLogger"], "a class needs a package that is not installed: "),
        (["--ckpt_path", "best"], '`.fit(ckpt_path="best")` is set but'),
        (["--ckpt_path", "hpc"], '`.fit(ckpt_path="hpc")` is set but'),
        (
            ["--trainer.callbacks", json.dumps([one("EarlyStopping", monitor="val_loss")])],
            "Early stopping conditioned on metric `val_loss` which is not available",
        ),
    ],
    ids=str,
)
def test_mistakes_are_one_line(refusal: Callable[..., str], words: list[str], expected: str) -> None:
    assert refusal(*words).startswith(expected)


def test_a_configuration_that_is_not_utf8_is_one_line(
    write_config: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(write_config())
    path.write_bytes("# caf\xe9\n".encode("latin-1") + path.read_bytes())
    for command in (["fit"], ["eval"], ["distill", "--teacher", "x"]):
        assert main([*command, "--config", str(path)]) == 2
        assert capsys.readouterr().err.splitlines()[-1].endswith("config.yaml is not UTF-8; save it as UTF-8")


def test_two_callbacks_of_one_metric_are_refused(
    refusal: Callable[..., str], fit: Callable[..., int]
) -> None:
    callback = one("GenerativePerplexityCallback", every_n_steps=1)
    line = refusal(trainer__callbacks=[one("EMA"), callback, callback])
    assert "two GenerativePerplexityCallbacks log val/gen_ppl; give one of them another prefix" in line


class NoFolder(DummyLogger):
    """As W&B's, which says that its folder is the working one."""

    save_dir, name, version = ".", "none", 0  # type: ignore[assignment]


def test_a_logger_without_a_folder_overwrites_no_configuration(
    fit: Callable[..., int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "own_logger", sys.modules[__name__])
    logger = {"trainer__logger": "own_logger.NoFolder"}
    assert fit("elsewhere", **logger) == 0
    mine = Path("config.yaml").read_text()
    assert "max_stepz" not in mine
    assert Path("runs/elsewhere/config.yaml").exists()
    assert "own_logger.NoFolder" in mine
    assert fit("elsewhere", "--trainer.default_root_dir", ".", **logger) == 0
    assert Path("config.yaml").read_text() == mine


@pytest.mark.parametrize(
    ("writer", "method", "times"),
    [
        (ExperimentWriter, "save", 0),
        (RecordWriter, "write", 0),
        (RecordWriter, "write", 3),
        (CSVLogger, "log_hyperparams", 0),
    ],
)
def test_a_full_log_disk_does_not_stop_training(
    fit: Callable[..., int], monkeypatch: pytest.MonkeyPatch, writer: Any, method: str, times: int
) -> None:
    write, done = getattr(writer, method), iter(range(times))

    def full(self: Any, *arguments: Any) -> None:
        if next(done, None) is None:
            raise OSError(28, "No space left on device")
        write(self, *arguments)

    monkeypatch.setattr(writer, method, full)
    told = pytest.warns(UserWarning, match="No space left on device.*training goes on")
    with Path("/dev/full").open("w") as stdout, told:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert fit("full") == 0
    assert torch.load("runs/full/checkpoints/last.ckpt", weights_only=True)["global_step"] == 3


def test_a_full_log_disk_does_not_stop_training_with_loggers_of_ones_own(
    fit: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ExperimentWriter, "save", full)
    logger = one("lightning.pytorch.loggers.CSVLogger", save_dir="logs")
    with pytest.warns(UserWarning, match="No space left on device.*training goes on"):
        assert fit("own", trainer__logger=logger) == 0
    assert Path("logs/lightning_logs").exists()
    assert torch.load("runs/own/checkpoints/last.ckpt", weights_only=True)["global_step"] == 3


def test_accumulation_by_epoch_goes_on_after_a_resume_within_an_epoch(fit: Callable[..., int]) -> None:
    scheduler = one("GradientAccumulationScheduler", scheduling={0: 1, 1: 3})
    changes: dict[str, Any] = {
        "trainer__callbacks": [one("EMA"), scheduler, one("ModelCheckpoint", **EVERY_STEP)],
        "trainer__limit_train_batches": 5,
        "trainer__max_steps": 8,
        "trainer__val_check_interval": 1.0,
    }
    assert fit("whole", **changes) == 0
    assert fit("part", "--ckpt_path", "runs/whole/checkpoints/s6.ckpt", **changes) == 0
    assert losses("part") == {step: loss for step, loss in losses("whole").items() if step >= 6}


def test_another_optimizer_on_resume_is_refused(fit: Callable[..., int], refusal: Callable[..., str]) -> None:
    assert fit("before") == 0
    settings = {"model__optimizer": one("AdamWSettings")}
    line = refusal("--ckpt_path", "runs/before", **settings)
    assert line.startswith(
        "the checkpoint was written with another optimizer; resume with its model.optimizer"
    )


@pytest.mark.parametrize(("size", "total"), [(2, 4), (8, 8)])
def test_a_run_goes_on_with_the_next_examples_in_other_micro_batches(
    fit: Callable[..., int], monkeypatch: pytest.MonkeyPatch, size: int, total: int
) -> None:
    seen: list[list[int]] = []
    after = ELFDataModule.on_after_batch_transfer

    def noted(self: ELFDataModule, batch: Any, index: int) -> Any:
        if self.trainer is not None and self.trainer.training:
            seen.extend(batch.input_ids.tolist())
        return after(self, batch, index)

    monkeypatch.setattr(ELFDataModule, "on_after_batch_transfer", noted)
    assert fit("whole", trainer__max_steps=12) == 0
    whole, steps = seen[:], 4
    seen.clear()
    assert fit("part", trainer__max_steps=steps) == 0
    seen.clear()
    words = ("--data.batch_size", str(size), "--data.global_batch_size", str(total))
    more = {"trainer__max_steps": 6, "trainer__max_epochs": -1}
    assert fit("part", "--ckpt_path", "runs/part", *words, **more) == 0
    assert seen == whole[4 * steps : 4 * steps + 2 * total]
    assert torch.load("runs/part/checkpoints/last.ckpt", weights_only=True)["global_step"] == 6
    seen.clear()
    assert fit("part", "--ckpt_path", "runs/part", *words, **more | {"trainer__max_steps": 7}) == 0
    assert seen == whole[4 * steps + 2 * total : 4 * steps + 3 * total]
