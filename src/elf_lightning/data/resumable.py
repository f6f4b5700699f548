"""A DataModule's part in a Trainer's run: its process, device, precision and place in the data."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from math import inf
from typing import Any

import torch
from lightning.pytorch import LightningDataModule

from elf_lightning.data import checks
from elf_lightning.data.position import Position


class ResumableDataModule(LightningDataModule):
    """Knows where training stands, keeps that in checkpoints, and continues there.

    Args:
        batch_size: rows a device and micro-batch.
        global_batch_size: rows an optimizer step, over all devices and accumulated micro-batches; None
            leaves accumulation to the Trainer.
    """

    def __init__(self, batch_size: int, global_batch_size: int | None) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.global_batch_size = global_batch_size
        self.position = Position()

    def setup(self, stage: str) -> None:
        """Begin at the first batch, and fix the accumulation that `global_batch_size` asks for.

        Raises:
            UserError: if the Trainer asks for another accumulation.
        """
        if stage != "fit":
            return
        self.position = Position()  # a checkpoint to go on from is loaded after this
        if self.global_batch_size is not None and self.trainer is not None:
            needed = self.accumulation(self.trainer.world_size)
            checks.check_accumulation(self.global_batch_size, needed, self.trainer.accumulate_grad_batches)
            self.trainer.accumulate_grad_batches = needed

    def accumulation(self, world_size: int) -> int:
        """Micro-batches an optimizer step; 1 without `global_batch_size`.

        Raises:
            UserError: if `global_batch_size` is no whole number of micro-batches.
        """
        return checks.accumulation(self.global_batch_size, self.batch_size, world_size)

    def reached(self) -> Position | None:
        """Where the last optimizer step of `fit` left training; None where none has begun."""
        if self.trainer is None or not 0 < self.trainer.num_training_batches < inf:
            return None
        # Counted when they are processed: `completed` is one behind where a callback saves after a batch.
        progress = self.trainer.fit_loop.epoch_loop.batch_progress.total
        return Position.after_last_step(
            progress.processed,  # type: ignore[attr-defined]
            int(self.trainer.num_training_batches),
            self.trainer.accumulate_grad_batches,
            self.batch_size * self.trainer.world_size,
        )

    def state_dict(self) -> dict[str, Any]:
        """Where training stands."""
        position = self.reached()
        return {} if position is None else asdict(position)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue there."""
        self.position = Position(**state_dict)
        # The sampler does resume; Lightning looks for loaders that save a state of their own.
        warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")

    def _device(self) -> torch.device:
        if self.trainer is not None:
            return self.trainer.strategy.root_device
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")

    def _precision(self) -> AbstractContextManager[None]:
        return nullcontext() if self.trainer is None else self.trainer.precision_plugin.forward_context()

    def _rank(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
