"""What `benchmarks.gpu.ranks` has the ranks of a run do."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from elf_lightning.batch import TokenBatch


class RowRecord(Callback):
    """Writes down which rows each step trains on; the last rank may be killed before one.

    Args:
        path: beginning of the files' names; each rank has its own.
        kill_at: the step before which the last rank is killed; None lets it live.
    """

    def __init__(self, path: str, kill_at: int | None = None) -> None:
        self.path = path
        self.kill_at = kill_at

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: TokenBatch, batch_idx: int
    ) -> Any:
        """Add a line."""
        rank, step = trainer.global_rank, trainer.global_step
        digest = hashlib.sha256(batch.input_ids.cpu().numpy().tobytes()).hexdigest()
        with open(f"{self.path}-{rank}.jsonl", "a") as file:  # noqa: PTH123 - a name's beginning, no folder
            file.write(json.dumps({"step": step, "rows": digest}) + "\n")
        if step == self.kill_at and rank == trainer.world_size - 1:
            os.kill(os.getpid(), signal.SIGKILL)
