"""What is watched while a run trains: its speed, and signs that it no longer learns."""

import logging
import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from elf_lightning.batch import TokenBatch
from elf_lightning.network.flops import device_peak

logger = logging.getLogger(__name__)

WINDOW_STEPS = 500  # optimizer steps over which the best decode accuracy is kept
MIN_BEST_ACCURACY = 0.2  # below this, half of the best accuracy may be chance
MIN_ENTROPY = 1.0  # nats; real text has several times as much, a repeated token has 0


def interval_ends(trainer: Trainer, last_step: int) -> bool:
    """Whether an optimizer step after `last_step` is one of those that are logged."""
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return trainer.global_step != last_step and every > 0 and trainer.global_step % every == 0


class CollapseWatch(Callback):
    """Warns when decode accuracy or the samples' entropy collapses, and names the likely cause.

    A collapse is a mean of `train/decode_accuracy` over `log_every_n_steps` optimizer steps below half of the
    best mean in the last 500 steps, or a `val/entropy`, as sampling callbacks log it, below 1 nat. Each
    warning is given once, and again only after a recovery. Modules without these metrics are not watched.
    """

    _warned: frozenset[str] = frozenset()
    _step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts afresh."""
        self._sum: Tensor | float = 0.0
        self._count = 0
        self._means: list[tuple[int, float]] = []
        self._warned, self._step = frozenset(), trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Adds the batch's accuracy, on the device; checks the mean every `log_every_n_steps`."""
        if (accuracy := trainer.callback_metrics.get("train/decode_accuracy")) is not None:
            self._sum, self._count = self._sum + accuracy, self._count + 1
        due, self._step = interval_ends(trainer, self._step), trainer.global_step
        if due:
            if self._count:
                self._check_accuracy(trainer)
            self._check_entropy(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Checks the samples' entropy."""
        if not trainer.sanity_checking:
            self._check_entropy(trainer)

    def _check_accuracy(self, trainer: Trainer) -> None:
        mean, self._sum, self._count = float(self._sum) / self._count, 0.0, 0
        recent = [one for one in self._means if one[0] >= self._step - WINDOW_STEPS]
        self._means = [*recent, (self._step, mean)]
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
        self._warned = self._warned | {what} if collapsed else self._warned - {what}


class Throughput(Callback):
    """Logs `train/tokens_per_second` and, if the device's peak is known, `train/mfu`.

    Tokens are those of all ranks, padding included, since the network computes it too; only batches that are
    a `TokenBatch` are counted. MFU is the module's `training_flops` per second as a fraction of the device's
    bfloat16 peak (`elf_lightning.network.flops`). Both are means over the last `log_every_n_steps` optimizer
    steps by the host's clock, which the device follows over many steps. Validation time is left out.
    """

    _since = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts counting."""
        self._peak = device_peak(pl_module.device)
        self._step, self._first_interval = trainer.global_step, True
        self._tokens, self._flops, self._since = 0, 0.0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts the batch; logs the rates of an interval at its end, and of the first one in every step."""
        if not isinstance(batch, TokenBatch):
            return
        batch_size, length = batch.input_ids.shape
        self._tokens += batch_size * length * trainer.world_size
        if (flops := getattr(pl_module, "training_flops", None)) is not None:
            self._flops += flops(batch_size, length)
        over, self._step = interval_ends(trainer, self._step), trainer.global_step
        if over or self._first_interval:
            seconds = time.perf_counter() - self._since
            rates = {"train/tokens_per_second": self._tokens / seconds}
            if self._peak is not None and self._flops:
                rates["train/mfu"] = self._flops / seconds / self._peak
            # As tensors on the host: Lightning would move plain numbers to the device, and wait for it.
            pl_module.log_dict({name: torch.tensor(rate) for name, rate in rates.items()})
        if over:
            self._first_interval = False
            self._tokens, self._flops, self._since = 0, 0.0, time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops the clock."""
        self._pause = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock again."""
        self._since += time.perf_counter() - self._pause
