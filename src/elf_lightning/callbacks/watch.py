"""Warnings about runs that go on and learn nothing any more."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

logger = logging.getLogger(__name__)

WINDOW_STEPS = 500
"""Optimizer steps over which the best decode accuracy is remembered."""
MIN_BEST_ACCURACY = 0.2
"""Half of a best accuracy under this may be chance."""
MIN_ENTROPY = 1.0
"""Nats; real text has several times as much, one repeated token has none."""


class CollapseWatch(Callback):
    """Warns when decode accuracy or the samples' entropy collapses, and names the likely cause.

    Decode accuracy is added up on the device and asked for every `log_every_n_steps` optimizer steps: a mean
    below half the best mean of the last 500 steps is a collapse. So is a `val/entropy`, as callbacks that
    sample log it, below 1 nat. Each is told once, and again only after it has been well in between.
    """

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._count = 0
        self._step = 0
        self._means: deque[tuple[int, float]] = deque()
        self._told: set[str] = set()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        self._sum, self._count, self._step = None, 0, trainer.global_step
        self._means.clear()
        self._told.clear()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the batch's accuracy; look at the mean now and then."""
        metrics = trainer.callback_metrics
        if (accuracy := metrics.get("train/decode_accuracy")) is not None:
            self._sum = accuracy.clone() if self._sum is None else self._sum.add_(accuracy)
            self._count += 1
        stepped, self._step = trainer.global_step != self._step, trainer.global_step
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if stepped and every and self._step % every == 0:
            self._look_at_accuracy(trainer)
            self._look_at_entropy(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the samples' entropy."""
        if not trainer.sanity_checking:
            self._look_at_entropy(trainer)

    def _look_at_accuracy(self, trainer: Trainer) -> None:
        if self._sum is None:
            return
        mean, self._sum, self._count = float(self._sum) / self._count, None, 0
        while self._means and self._means[0][0] < self._step - WINDOW_STEPS:
            self._means.popleft()
        self._means.append((self._step, mean))
        best_step, best = max(self._means, key=lambda one: one[1])
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self._tell(
            trainer,
            "accuracy",
            best >= MIN_BEST_ACCURACY and mean < best / 2,
            f"decode accuracy fell from {best:.1%} at step {best_step} to {mean:.1%} at step {self._step}. "
            f"The likely cause is a learning rate that is too high ({rate:.2g}): go back to a checkpoint "
            "from before, with a lower model.optimizer.base_learning_rate or a longer warm-up",
        )

    def _look_at_entropy(self, trainer: Trainer) -> None:
        entropy = trainer.callback_metrics.get("val/entropy", torch.tensor(torch.inf))
        self._tell(
            trainer,
            "entropy",
            bool(entropy < MIN_ENTROPY),
            f"samples have an entropy of {float(entropy):.2f} nats at step {self._step}: they repeat a few "
            "tokens. Early in training that is usual; later the likely cause is too much guidance for this "
            "model (lower model.sampling.guidance) or latents that are normalised wrongly",
        )

    def _tell(self, trainer: Trainer, what: str, collapsed: bool, message: str) -> None:
        if not collapsed:
            self._told.discard(what)
        elif what not in self._told:
            self._told.add(what)
            if trainer.is_global_zero:
                logger.warning(message)
