"""What a person watching a run sees."""

from __future__ import annotations

import logging
import math
import sys
import time
from datetime import timedelta
from typing import Any, TextIO

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich import get_console
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from elf_lightning.callbacks.metric_text import lines, short_metrics, words

SECTIONS = {"train": "train", "val": "held out"}
"""Prefix of the logged names -> what its line is called."""


class TrainingProgress(ProgressBar):
    """A bar over the whole run with the latest metrics under it; without a terminal, plain lines instead.

    Metrics change every `log_every_n_steps` optimizer steps, and validation ones after each validation: only
    then is the device asked for their values. Where output is a file, a pipe or a notebook, each change is a
    line.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bars = _bars()
        self._live: Live | None = None
        self._streams: dict[logging.StreamHandler[TextIO], TextIO] = {}
        self._metrics: dict[str, dict[str, str]] = {}
        self._main: TaskID | None = None
        self._side: TaskID | None = None
        self._started = 0.0
        self._step = 0

    def disable(self) -> None:
        """Show nothing; Lightning asks for that on all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show what there is again."""
        self._enabled = True

    # Training

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the bar."""
        self._metrics, self._step, self._started = {}, trainer.global_step, time.monotonic()
        total = trainer.estimated_stepping_batches
        self._main = self._bars.add_task(
            self._place(trainer), total=total if math.isfinite(total) else None, completed=self._step
        )
        self._open()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar on after an optimizer step; now and then, bring the metrics up to date."""
        if trainer.global_step == self._step or self._main is None:
            return
        first, self._step = not self._metrics, trainer.global_step
        self._bars.update(self._main, completed=self._step, description=self._place(trainer))
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if first or (every and self._step % every == 0):
            self._show(trainer, "train")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the last state on the screen."""
        self._close()

    # Everything that goes through batches besides

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a bar of its own."""
        if trainer.sanity_checking:
            self._begin("sanity check", trainer.num_sanity_val_batches)
        else:
            self._begin("validation", trainer.num_val_batches)

    def on_validation_batch_end(self, *_: Any) -> None:
        """Move on."""
        self._advance()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the bar away; while training, show the metrics."""
        self._end()
        if self._main is not None:
            self._show(trainer, "val")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a bar."""
        self._begin("test", trainer.num_test_batches)

    def on_test_batch_end(self, *_: Any) -> None:
        """Move on."""
        self._advance()

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the bar away; what is done after the batches has its own."""
        self._end()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a bar."""
        self._begin("predict", trainer.num_predict_batches)

    def on_predict_batch_end(self, *_: Any) -> None:
        """Move on."""
        self._advance()

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the bar away."""
        self._end()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the terminal back, also after an error."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the terminal back, for the error to be read."""
        self._close()

    # The screen

    def _place(self, trainer: Trainer) -> str:
        total = trainer.estimated_stepping_batches
        of = f"/{total:,}" if math.isfinite(total) else ""
        return f"step {trainer.global_step:,}{of}, epoch {trainer.current_epoch}"

    def _show(self, trainer: Trainer, section: str) -> None:
        if not self._enabled:
            return
        self._metrics[section] = short_metrics(trainer.callback_metrics, section)
        if self._live is not None:
            self._live.update(self._screen())
            return
        elapsed = timedelta(seconds=round(time.monotonic() - self._started))
        print(
            f"{self._place(trainer)}, {elapsed}",
            SECTIONS[section],
            *words(self._metrics[section]),
            sep="  ",
            flush=True,
        )

    def _screen(self) -> Group:
        grid = Table.grid(padding=(0, 2))
        for section, metrics in self._metrics.items():
            name = SECTIONS[section]
            for line in lines(words(metrics), get_console().width - max(map(len, SECTIONS.values())) - 2):
                grid.add_row(name, line)
                name = ""
        return Group(self._bars, grid)

    def _open(self) -> None:
        if self._live is None and self._enabled and get_console().is_terminal:
            self._live = Live(self._screen(), console=get_console(), refresh_per_second=2)
            self._live.start()
            # While there are bars, Lightning's messages go above them, as all that is printed.
            self._streams = {handler: handler.stream for handler in _handlers()}
            for handler in self._streams:
                handler.setStream(sys.stderr)

    def _close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
            for handler, stream in self._streams.items():
                handler.setStream(stream)
        self._bars, self._main, self._side = _bars(), None, None

    def _begin(self, name: str, batches: list[int | float]) -> None:
        total = sum(batches)
        self._side = self._bars.add_task(name, total=total if math.isfinite(total) else None)
        self._open()

    def _advance(self) -> None:
        if self._side is not None:
            self._bars.advance(self._side)

    def _end(self) -> None:
        if self._side is not None:
            self._bars.remove_task(self._side)
            self._side = None
        if self._main is None:
            self._close()


def _handlers() -> list[logging.StreamHandler[TextIO]]:
    """What prints Lightning's messages."""
    handlers = logging.getLogger("lightning.pytorch").handlers
    return [handler for handler in handlers if isinstance(handler, logging.StreamHandler)]


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        speed_estimate_period=300,
    )
