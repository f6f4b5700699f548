"""Callbacks and a logger that tests name in a run's configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger


class LineLogger(Logger):
    """Adds a line to a file for each set of metrics, with no digit lost."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = Path(path)

    @property
    def name(self) -> str:
        return "lines"

    @property
    def version(self) -> int:
        return 0

    @property
    def save_dir(self) -> str:
        return "configurations"

    def log_hyperparams(self, *arguments: Any, **settings: Any) -> None:
        """Tests know them."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(metrics | {"step": step}, sort_keys=True) + "\n")


class Stopped(Exception):
    """Raised to end a run; nobody's mistake."""


class StopAfter(Callback):
    """Stops a run after an optimizer step.

    Args:
        step: the step.
        how: `exception` raises when the next batch begins, `within_step` when one more micro-batch has been
            trained on, `in_validation` in the next validation; `request` ends the run in order, as
            `max_time` does.
    """

    def __init__(self, step: int, how: str) -> None:
        self.step = step
        self.how = how

    def on_train_batch_start(self, trainer: Trainer, *arguments: Any) -> None:
        self._stop_if("exception", trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            self._stop_if("within_step", trainer)
        if self.how == "request" and trainer.global_step == self.step:
            trainer.should_stop = True

    def on_validation_batch_start(self, trainer: Trainer, *arguments: Any) -> None:
        self._stop_if("in_validation", trainer)

    def _stop_if(self, how: str, trainer: Trainer) -> None:
        if self.how == how and trainer.global_step == self.step:
            raise Stopped(f"{how} after step {self.step}")
