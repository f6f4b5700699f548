"""How fast training is, without ever waiting for the device to find out."""

from __future__ import annotations

import time
from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from elf_lightning.batch import TokenBatch
from elf_lightning.network.peaks import device_peak


@runtime_checkable
class CountsFlops(Protocol):
    """A module that knows what a micro-batch costs."""

    def training_flops(self, rows: int, length: int) -> float:
        """FLOPs of a micro-batch of `rows` rows with `length` positions, forward and backward."""


class Throughput(Callback):
    """Logs `train/tokens_per_second` and, where the device's peak is known, `train/mfu`.

    Tokens are the positions of all ranks' rows, padding included, since the network computes them all. MFU is
    the share of the device's peak in bfloat16 (`elf_lightning.network.peaks`) that the module's own work
    (`training_flops`) amounts to. Both are means over the last `log_every_n_steps` optimizer steps, by the
    host's clock: the device may lag behind it within a step, not over many. Validation does not count.
    """

    def __init__(self) -> None:
        self._peak: float | None = None
        self._tokens = self._flops = self._since = self._pause = 0.0
        self._step = 0
        self._first_interval = True
        self._rates: dict[str, float] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting."""
        self._peak = device_peak(pl_module.device)
        self._step, self._first_interval = trainer.global_step, True
        self._restart()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: TokenBatch, batch_idx: int
    ) -> None:
        """Count the batch, and log the rates of the last whole interval; of the first, as far as it is."""
        rows, length = batch.input_ids.shape
        self._tokens += rows * length * trainer.world_size
        if isinstance(pl_module, CountsFlops):
            self._flops += pl_module.training_flops(rows, length)
        stepped, self._step = trainer.global_step != self._step, trainer.global_step
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        over = stepped and every > 0 and self._step % every == 0
        if over or self._first_interval:
            self._rates = self._measured()
        if over:
            self._first_interval = False
            self._restart()
        # On the host: a number that Lightning has to bring to the device makes the host wait for it.
        pl_module.log_dict({name: torch.tensor(rate) for name, rate in self._rates.items()})

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._pause = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on."""
        self._since += time.perf_counter() - self._pause

    def _restart(self) -> None:
        self._tokens = self._flops = 0.0
        self._since = time.perf_counter()

    def _measured(self) -> dict[str, float]:
        seconds = time.perf_counter() - self._since
        rates = {"train/tokens_per_second": self._tokens / seconds}
        if self._peak is not None and self._flops:
            rates["train/mfu"] = self._flops / seconds / self._peak
        return rates
