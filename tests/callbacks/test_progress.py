"""The bar on a terminal, lines elsewhere, and values that are read only when they are due."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from rich.console import Console

from elf_lightning.callbacks import TrainingProgress, progress

pytestmark = pytest.mark.filterwarnings("ignore")


def logged(batch: int) -> dict[str, float]:
    return {
        "train/denoise_loss": 1.5,
        "train/decode_loss": 4.25,
        "train/decode_accuracy": batch / 100,
        "train/gradient_norm": 1.25,
        "train/learning_rate": 0.002,
        "train/tokens_per_second": 123456.0,
        "train/mfu": 0.4,
    }


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is written to a terminal of 80 columns."""
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=80, height=30, color_system=None)
    monkeypatch.setattr(progress, "get_console", lambda: console)
    return written


def test_plain_lines_where_there_is_no_terminal(
    scripted: Any, train: Callable[..., Trainer], capsys: pytest.CaptureFixture[str]
) -> None:
    train(scripted(logged, {"val/decode_accuracy": 0.5}), TrainingProgress())
    printed = re.sub(r"loss [\d.]+", "loss L", capsys.readouterr().out)
    lines = re.sub(r"0:00:\d\d ", "0:00:SS ", printed).splitlines()
    assert [line.split(",")[0] for line in lines] == ["step 1/12", "step 5/12", "step 10/12", "step 12/12"]
    assert lines[1] == (
        "step 5/12, epoch 0, 0:00:SS  train  loss L  denoise 1.500  decode 4.250  acc 4.0%  grad 1.250  "
        "lr 0.002  tok/s 123k  mfu 40.0%"
    )
    assert lines[3] == "step 12/12, epoch 0, 0:00:SS  validation  loss L  acc 50.0%"


class Numbered(Callback):
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        pl_module.log("train/tokens_per_second", torch.tensor(float(trainer.global_step)))


def test_what_later_callbacks_log_is_that_of_the_same_step(
    scripted: Any, train: Callable[..., Trainer], capsys: pytest.CaptureFixture[str]
) -> None:
    train(scripted(), TrainingProgress(), Numbered())
    shown = re.findall(r"^step (\d+)/12.* train .*tok/s ([\d.]+)$", capsys.readouterr().out, re.MULTILINE)
    assert [(int(step), float(rate)) for step, rate in shown] == [(1, 1), (5, 5), (10, 10)]


class FullDisk(ModelCheckpoint):
    """Cannot save a checkpoint, even when training ends for that reason."""

    def on_exception(self, *_: Any) -> None:
        raise OSError("no space left on device")

    on_validation_end = on_exception


def test_a_checkpoint_that_cannot_be_saved_hides_nothing(
    scripted: Any, train: Callable[..., Trainer], screen: io.StringIO, tmp_path: Path
) -> None:
    module = scripted(logged, {"val/decode_accuracy": 0.5})
    settings = {"enable_checkpointing": True, "num_sanity_val_steps": 0}
    with pytest.raises(OSError, match="no space left"):
        train(module, FullDisk(tmp_path), TrainingProgress(), **settings)
    assert "validation  loss 3.000  acc 50.0%" in screen.getvalue()
    assert screen.getvalue().endswith("\x1b[?25h"), "the terminal is not released"


def test_a_screen_of_80_columns(scripted: Any, train: Callable[..., Trainer], screen: io.StringIO) -> None:
    train(scripted(logged), TrainingProgress(), max_epochs=2)
    frames = re.split(r"\x1b\[\?25[lh]|(?:\x1b\[2K\x1b\[1A)+\x1b\[2K|\r", screen.getvalue())
    last = [line.rstrip() for line in frames[-2].splitlines()]
    assert re.fullmatch(r"step 24/24, epoch 1 ━+ \d:\d\d:\d\d \d:\d\d:\d\d left", last[0])
    assert re.fullmatch(
        r"train       loss [\d.]+  denoise 1.500  decode 4.250  acc 7.0%  grad 1.250", last[1]
    )
    assert last[2] == "            lr 0.002  tok/s 123k  mfu 40.0%"
    assert last[3] == "validation  loss 3.000"
    assert len(last) == 4
    assert max(len(line) for frame in frames for line in frame.splitlines()) <= 80


def test_the_bar_of_a_run_that_ends_by_time_is_full_when_the_time_is_over(
    scripted: Any, train: Callable[..., Trainer], screen: io.StringIO
) -> None:

    class EndsInStepFour(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            trainer.should_stop = trainer.global_step == 4

    bar = TrainingProgress()
    train(scripted(logged), bar, EndsInStepFour(), max_epochs=-1, max_time="00:02:00:00")
    shown = re.findall(r"step 4, epoch 0 .*", screen.getvalue())[-1].rstrip()
    assert re.fullmatch(r"step 4, epoch 0 .+ 0:00:\d\d (\d:\d\d:\d\d|-:--:--) left", shown)


def test_values_are_read_only_now_and_then(
    scripted: Any, train: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    step = 0

    class Steps(Callback):
        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            nonlocal step
            step = trainer.global_step + 1

    for name in ("item", "tolist", "__float__", "__bool__", "__int__"):
        original = getattr(torch.Tensor, name)

        def read(self: torch.Tensor, original: Any = original) -> Any:
            reads.append(step)
            return original(self)

        monkeypatch.setattr(torch.Tensor, name, read)
    train(scripted(logged), TrainingProgress(), Steps(), limit_val_batches=0)
    assert set(reads) - {0} == {1, 5, 10}


def test_is_silent_on_other_ranks(
    scripted: Any, train: Callable[..., Trainer], capsys: pytest.CaptureFixture[str]
) -> None:
    silent = TrainingProgress()
    silent.disable()
    train(scripted(logged), silent)
    assert not capsys.readouterr().out


def test_gives_the_terminal_back_after_an_error(
    scripted: Any, train: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    monkeypatch.setattr(progress, "get_console", lambda: console)

    def fail(batch: int) -> dict[str, float]:
        if batch == 3:
            raise RuntimeError("stopped")
        return {}

    with pytest.raises(RuntimeError, match="stopped"):
        train(scripted(fail), TrainingProgress())
    with pytest.raises(IndexError):
        console.pop_live() if hasattr(console, "pop_live") else console._live_stack.pop()
