"""A callback for the runs of `benchmarks.gpu.ranks`."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from elf_lightning.batch import TokenBatch


class SequenceRecord(Callback):
    """Records which sequences each step trains on, in `PATH-RANK.jsonl`; kills the last rank at `kill_at`."""

    def __init__(self, path: str, kill_at: int | None = None) -> None:
        self.path, self.kill_at = path, kill_at

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: TokenBatch, batch_idx: int
    ) -> None:
        """Add a line to the rank's file."""
        rank, step = trainer.global_rank, trainer.global_step
        digest = hashlib.sha256(batch.input_ids.cpu().numpy().tobytes()).hexdigest()
        with Path(f"{self.path}-{rank}.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, "sequences": digest}) + "\n")
        if step == self.kill_at and rank == trainer.world_size - 1:
            os.kill(os.getpid(), signal.SIGKILL)
