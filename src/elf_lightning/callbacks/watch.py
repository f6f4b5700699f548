"""Warnings about runs that no longer learn."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

logger = logging.getLogger(__name__)

WINDOW_STEPS = 500
"""Optimizer steps over which the best decode accuracy is kept."""
MIN_BEST_ACCURACY = 0.2
"""Below this, half of the best accuracy may be chance."""
MIN_ENTROPY = 1.0
"""Nats; real text has several times as much, a repeated token has 0."""


class CollapseWatch(Callback):
    """Warns when decode accuracy or the samples' entropy collapses, and names the likely cause.

    A collapse is a mean of `train/decode_accuracy` over `log_every_n_steps` optimizer steps below half of the
    best mean in the last 500 steps, or a `val/entropy`, as sampling callbacks log it, below 1 nat. Each
    warning is given once, and again only after a recovery. Modules without these metrics are not watched.
    """

    def __init__(self) -> None:
        self._warned: set[str] = set()
        self._step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts afresh."""
        self._sum: Tensor | float = 0.0
        self._count = 0
        self._means: deque[tuple[int, float]] = deque()
        self._warned, self._step = set(), trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Adds the batch's accuracy, on the device; checks the mean every `log_every_n_steps`."""
        if (accuracy := trainer.callback_metrics.get("train/decode_accuracy")) is not None:
            self._sum, self._count = self._sum + accuracy, self._count + 1
        stepped, self._step = trainer.global_step != self._step, trainer.global_step
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if stepped and every and self._step % every == 0:
            self._check_accuracy(trainer)
            self._check_entropy(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Checks the samples' entropy."""
        if not trainer.sanity_checking:
            self._check_entropy(trainer)

    def _check_accuracy(self, trainer: Trainer) -> None:
        if not self._count:
            return
        mean, self._sum, self._count = float(self._sum) / self._count, 0.0, 0
        while self._means and self._means[0][0] < self._step - WINDOW_STEPS:
            self._means.popleft()
        self._means.append((self._step, mean))
        best_step, best = max(self._means, key=lambda one: one[1])
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self._warn(
            trainer,
            best >= MIN_BEST_ACCURACY and mean < best / 2,
            "decode accuracy",
            f"fell from {best:.1%} at step {best_step} to {mean:.1%} at step {self._step}. "
            f"The likely cause is a learning rate that is too high ({rate:.2g}): resume from an earlier "
            "checkpoint with a lower model.optimizer.base_learning_rate or a longer warm-up",
        )

    def _check_entropy(self, trainer: Trainer) -> None:
        entropy = float(trainer.callback_metrics.get("val/entropy", torch.tensor(torch.inf)))
        self._warn(
            trainer,
            entropy < MIN_ENTROPY,
            "samples",
            f"have an entropy of {entropy:.2f} nats at step {self._step}: they repeat a few "
            "tokens. This is normal early in training; later the likely cause is too much guidance for this "
            "model (lower model.sampling.guidance) or latents that are normalised wrongly",
        )

    def _warn(self, trainer: Trainer, collapsed: bool, what: str, message: str) -> None:
        if collapsed and what not in self._warned and trainer.is_global_zero:
            logger.warning(f"{what} {message}")
        (self._warned.add if collapsed else self._warned.discard)(what)
