"""Training throughput, measured without waiting for the device."""

from __future__ import annotations

import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from elf_lightning.batch import TokenBatch
from elf_lightning.network.flops import device_peak


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
        """Counts the batch, and logs the rates of the last complete interval, at first of the current one."""
        if not isinstance(batch, TokenBatch):
            return
        batch_size, length = batch.input_ids.shape
        self._tokens += batch_size * length * trainer.world_size
        if (flops := getattr(pl_module, "training_flops", None)) is not None:
            self._flops += flops(batch_size, length)
        stepped, self._step = trainer.global_step != self._step, trainer.global_step
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        over = stepped and every > 0 and self._step % every == 0
        if over or self._first_interval:
            seconds = time.perf_counter() - self._since
            self._rates = {"train/tokens_per_second": self._tokens / seconds}
            if self._peak is not None and self._flops:
                self._rates["train/mfu"] = self._flops / seconds / self._peak
        if over:
            self._first_interval = False
            self._tokens, self._flops, self._since = 0, 0.0, time.perf_counter()
        # As tensors on the host: Lightning would move plain numbers to the device, and wait for it.
        pl_module.log_dict({name: torch.tensor(rate) for name, rate in self._rates.items()})

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops the clock."""
        self._pause = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock again."""
        self._since += time.perf_counter() - self._pause
