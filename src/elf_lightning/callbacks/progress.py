"""The progress of a run, for whoever watches it."""

import logging
import math
import sys
import time
from datetime import timedelta
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar, Timer
from lightning.pytorch.trainer.states import RunningStage
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, Task, TaskID, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from elf_lightning.callbacks.metric_text import lines, short_metrics
from elf_lightning.callbacks.watch import interval_ends
from elf_lightning.terminal import get_console, say

SECTIONS = {"train": "train", "val": "validation"}  # titles of the metrics' lines, by section


class TrainingProgress(ProgressBar):
    """A bar over the whole run with the latest metrics below it; without a terminal, plain lines.

    Training metrics change every `log_every_n_steps` optimizer steps, validation metrics after each
    validation; only then are their values read from the device. In a file, a pipe or a notebook, each change
    prints a line.
    """

    _enabled = True
    _live: Live | None = None
    _main: TaskID | None = None
    _side: TaskID | None = None

    def __init__(self) -> None:
        super().__init__()
        self._metrics: dict[str, list[str]] = {}
        self._close()

    def disable(self) -> None:
        """Hides everything; Lightning calls this on all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Shows everything again."""
        self._enabled = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Moves itself behind all that may log in a step, but not behind what saves and so may fail."""
        super().setup(trainer, pl_module, stage)
        order = sorted(trainer.callbacks, key=lambda one: (isinstance(one, Checkpoint), one is self))  # type: ignore[attr-defined]
        trainer.callbacks = order  # type: ignore[attr-defined]  # a new list: Lightning is iterating over the old one

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the bar of the run."""
        self._metrics, self._step, self._started = {}, trainer.global_step, time.monotonic()
        self._main = self._bar(self._place(trainer), *_extent(trainer))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Advances the bar after an optimizer step, and updates the metrics when they are due."""
        if trainer.global_step == self._step or self._main is None:
            return
        completed, total = _extent(trainer)
        self._bars.update(self._main, description=self._place(trainer), completed=completed, total=total)
        if not self._metrics or interval_ends(trainer, self._step):
            self._show(trainer, "train")
        self._step = trainer.global_step

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Leaves the last state on the terminal, and releases it."""
        self._close()

    teardown = on_exception = on_train_end

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts a bar beside that of the run, as test and prediction do."""
        name, batches = {
            RunningStage.SANITY_CHECKING: ("sanity check", trainer.num_sanity_val_batches),
            RunningStage.VALIDATING: ("validation", trainer.num_val_batches),
            RunningStage.TESTING: ("test", trainer.num_test_batches),
            RunningStage.PREDICTING: ("predict", trainer.num_predict_batches),
        }[trainer.state.stage]  # type: ignore[index]
        self._side = self._bar(name, 0, sum(batches))

    on_test_start = on_predict_start = on_validation_start

    def on_validation_batch_end(self, *_: Any) -> None:
        """Advances the bar."""
        if self._side is not None:
            self._bars.advance(self._side)

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end  # type: ignore[assignment]

    def on_test_epoch_end(self, *_: Any) -> None:
        """Removes the bar."""
        if self._side is not None:
            self._bars.remove_task(self._side)
            self._side = None
        if self._main is None:
            self._close()

    on_predict_epoch_end = on_test_epoch_end  # type: ignore[assignment]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Removes the bar; during training, updates the metrics."""
        self.on_test_epoch_end()
        if self._main is not None:
            self._show(trainer, "val")

    def _place(self, trainer: Trainer) -> str:
        total = trainer.estimated_stepping_batches
        of = f"/{total:,}" if math.isfinite(total) else ""
        return f"step {trainer.global_step:,}{of}, epoch {trainer.current_epoch}"

    def _show(self, trainer: Trainer, section: str) -> None:
        if not self._enabled:
            return
        metrics = short_metrics(trainer.callback_metrics, section)
        self._metrics[section] = words = [f"{name} {value}" for name, value in metrics.items()]
        if self._live is not None:
            self._live.update(self._screen())
            return
        elapsed = timedelta(seconds=round(time.monotonic() - self._started))
        say("  ".join([f"{self._place(trainer)}, {elapsed}", SECTIONS[section], *words]))

    def _screen(self) -> Group:
        grid = Table.grid(padding=(0, 2))
        width = get_console().width - max(map(len, SECTIONS.values())) - 2
        for section, words in self._metrics.items():
            grid.add_row(SECTIONS[section], "\n".join(lines(words, width)))
        return Group(self._bars, grid)

    def _bar(self, name: str, completed: float, total: float | None) -> TaskID:
        bar = self._bars.add_task(name, total=total, completed=completed)  # type: ignore[arg-type]
        if self._live is None and self._enabled and get_console().is_terminal:
            self._live, before = Live(self._screen(), console=get_console(), refresh_per_second=2), sys.stderr
            self._live.start()
            _move_messages(before)  # above the bars, like everything that is printed
        return bar

    def _close(self) -> None:
        if self._live is not None:
            before = sys.stderr
            self._live.stop()
            self._live = None
            _move_messages(before)
        columns = BarColumn(), TimeElapsedColumn(), TimeLeft()
        self._bars = Progress("{task.description}", *columns, speed_estimate_period=300)
        self._main, self._side = None, None


def _move_messages(before: object) -> None:
    """Let Lightning's messages follow `sys.stderr`, which was `before`."""
    for handler in logging.getLogger("lightning.pytorch").handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is before:
            handler.setStream(sys.stderr)


class TimeLeft(TimeRemainingColumn):
    """The time that remains, if it is known."""

    def render(self, task: Task) -> Text:
        """Such as "0:00:12 left"."""
        left = super().render(task)
        return left.append(" left") if left.plain else left


def _extent(trainer: Trainer) -> tuple[float, float | None]:
    """How far a run has come, and its end: in optimizer steps or, if only time ends it, in seconds."""
    steps = trainer.estimated_stepping_batches
    timers = (one for one in trainer.callbacks if isinstance(one, Timer))  # type: ignore[attr-defined]
    if math.isfinite(steps):
        return trainer.global_step, steps
    if (timer := next(timers, None)) is None or (left := timer.time_remaining()) is None:
        return trainer.global_step, None
    return timer.time_elapsed(), timer.time_elapsed() + left
