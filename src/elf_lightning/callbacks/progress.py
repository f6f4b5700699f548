"""What a person watching a run sees."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

from elf_lightning.batch import LatentBatch


class TrainingProgress(RichProgressBar):
    """Rich progress bar with losses, decode accuracy and tokens a second.

    Tokens are the positions of all ranks' rows, padding included, since the network computes them all.
    They are counted on the host between two refreshes, so that nothing waits for the device.

    Args:
        refresh_rate: batches between two refreshes.
        leave: keep a finished bar on the screen.
    """

    def __init__(self, refresh_rate: int = 10, leave: bool = False) -> None:
        super().__init__(refresh_rate=refresh_rate, leave=leave)
        self._tokens = 0
        self._since = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting."""
        super().on_train_epoch_start(trainer, pl_module)
        self._tokens, self._since = 0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: LatentBatch, batch_idx: int
    ) -> None:
        """Count the batch's tokens; log their rate every `log_every_n_steps` batches."""
        self._tokens += batch.input_ids.numel() * trainer.world_size
        if (batch_idx + 1) % trainer.log_every_n_steps == 0:
            now = time.perf_counter()
            pl_module.log("train/tokens_per_second", self._tokens / (now - self._since), prog_bar=True)
            self._tokens, self._since = 0, now
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
