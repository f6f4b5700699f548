"""Callbacks and a logger that tests name in a run's configuration."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from torchmetrics import MeanMetric

from elf_lightning.objectives import Draws, ELFObjective, StepKey


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

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(metrics | {"step": step}, sort_keys=True) + "\n")


class StopAfter(Callback):
    """Stops a run after an optimizer step.

    Args:
        step: the step.
        how: `exception` raises when the next batch begins, `within_step` when one more micro-batch has been
            trained on, `in_validation` in the next validation; `request` ends the run in order, as
            `max_time` does; the name of a signal sends it to this process, `SIGTERM in validation` later.
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
        if " " not in self.how:
            self._send_if(self.how, trainer)

    def on_validation_batch_start(self, trainer: Trainer, *arguments: Any) -> None:
        self._stop_if("in_validation", trainer)
        self._send_if(f"{self.how.split()[0]} in validation", trainer)

    def on_predict_batch_start(self, trainer: Trainer, *arguments: Any) -> None:
        self._send_if(f"{self.how.split()[0]} in prediction", trainer)

    def _send_if(self, how: str, trainer: Trainer) -> None:
        word = how.split()[0]
        if self.how == how and word in signal.Signals.__members__ and trainer.global_step == self.step:
            os.kill(os.getpid(), signal.Signals[word])

    def _stop_if(self, how: str, trainer: Trainer) -> None:
        if self.how == how and trainer.global_step == self.step:
            raise RuntimeError(f"{how} after step {self.step}")


class AsTwoRanks(Callback):
    """Gives micro-batches, two to a step, the draws that two ranks have in that step."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        pl_module.objective = _AsTwoRanks(**vars(pl_module.objective))


class _AsTwoRanks(ELFObjective):
    def draw(self, shape: torch.Size, key: StepKey, device: torch.device) -> Draws:
        batch, rank = divmod(key.batch, 2)
        return super().draw(shape, replace(key, batch=batch, rank=rank), device)


class RankReport(Callback):
    """Writes to a file what a rank has drawn and measured, and how its gradients are reduced."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.report: dict[str, Any] = {"draws": [], "losses": [], "logged": {}, "own": {}}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        objective = _Recorded(**vars(pl_module.objective))
        object.__setattr__(objective, "draws", self.report["draws"])
        pl_module.objective = objective

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        names = ("find_unused_parameters", "broadcast_buffers", "gradient_as_bucket_view")
        self.report["ddp"] = {name: getattr(trainer.model, name) for name in names}
        self.report["strategy"] = type(trainer.strategy).__name__

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        logged = trainer.callback_metrics["train/loss"]
        self.report["losses"].append([outputs["loss"].item(), logged.item()])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = pl_module.validation_metrics.items()
        means = {name: metric.metric_state for name, metric in metrics if isinstance(metric, MeanMetric)}
        self.report["own"] = {
            name: [state["mean_value"].item(), state["weight"].item()] for name, state in means.items()
        }

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = trainer.callback_metrics.items()
        self.report["logged"] = {name: value.item() for name, value in metrics if name.startswith("val/")}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        Path(f"{self.path}-{trainer.global_rank}.json").write_text(json.dumps(self.report))


class _Recorded(ELFObjective):
    draws: list[tuple[int, float]]

    def draw(self, shape: torch.Size, key: StepKey, device: torch.device) -> Draws:
        draws = super().draw(shape, key, device)
        if key.epoch != "held out":
            self.draws.append((draws.num_decode, draws.noise.sum().item()))
        return draws
