"""Where training is in the data, so that a resumed run continues with the next batch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from math import inf
from typing import Any, Self

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from elf_lightning.data.batch_size import accumulation, check_accumulation, largest_batch_size
from elf_lightning.errors import UserError

VERSION = 2
"""Of the order of training examples and of label drop; increased whenever these change."""


@dataclass(frozen=True)
class Position:
    """The next batch to train on.

    Attributes:
        epoch: its epoch.
        batch: its index in that epoch.
        examples_per_batch: examples of a micro-batch, over all devices; None before the first batch.
    """

    epoch: int = 0
    batch: int = 0
    examples_per_batch: int | None = None

    @classmethod
    def after_last_step(
        cls, batches: int, batches_in_epoch: int, accumulation: int, examples_per_batch: int
    ) -> Self:
        """The batch after those of the last optimizer step.

        No checkpoint holds the gradients of later micro-batches, so these are repeated. An epoch's last step
        takes what is left of it.

        Args:
            batches: micro-batches trained on, in all epochs together.
            batches_in_epoch: micro-batches per epoch.
            accumulation: micro-batches per optimizer step.
            examples_per_batch: examples of a micro-batch, over all devices.
        """
        epoch, batch = divmod(batches, batches_in_epoch)
        return cls(epoch, batch - batch % accumulation, examples_per_batch)

    @classmethod
    def reached(cls, trainer: Trainer | None, batch_size: int) -> Self | None:
        """Where the last optimizer step of `fit` left training; None if no training has begun."""
        if trainer is None or not 0 < trainer.num_training_batches < inf:
            return None
        # `completed` is one behind when a callback saves after a batch.
        progress = trainer.fit_loop.epoch_loop.batch_progress.total
        return cls.after_last_step(
            progress.processed,  # type: ignore[attr-defined]
            int(trainer.num_training_batches),
            trainer.accumulate_grad_batches,
            batch_size * trainer.world_size,
        )

    def state_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The position that a checkpoint holds; warns if the examples after it come in another order."""
        # Version 1 had no entry `version`, and another name for the examples of a batch.
        examples = state.get("examples_per_batch", state.get("batch_rows"))
        position = cls(state["epoch"], state["batch"], examples)
        if state.get("version", 1) != VERSION and position.begun:
            rank_zero_warn(
                "the checkpoint is from a version of elf_lightning that shuffled differently: training "
                "continues with the training examples in another order"
            )
        # The sampler does resume; Lightning looks for loaders that save a state of their own.
        warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
        return position

    @property
    def begun(self) -> bool:
        """Whether there are batches before this one."""
        return (self.epoch, self.batch) != (0, 0)

    def check_batches(self, batch_size: int, world_size: int) -> None:
        """A position counted in batches holds for batches of the same size only.

        Raises:
            UserError: if they are larger or smaller.
        """
        examples = batch_size * world_size
        if self.begun and self.examples_per_batch not in (None, examples):
            raise UserError(
                f"data.batch_size {batch_size} x {world_size} device(s) is {examples} sequences per batch, "
                f"but the checkpoint counts batches of {self.examples_per_batch}; choose data.batch_size so "
                "that they agree (data.global_batch_size accumulates several)"
            )


class ResumableDataModule(LightningDataModule):
    """Keeps its position in checkpoints, continues there, and follows the Trainer's device and ranks.

    Args:
        batch_size: sequences per device and micro-batch.
        global_batch_size: sequences per optimizer step, over all devices and accumulated micro-batches; None
            leaves accumulation to the Trainer.
    """

    def __init__(self, batch_size: int, global_batch_size: int | None) -> None:
        super().__init__()
        self.batch_size = self._given_batch_size = batch_size
        self.global_batch_size = global_batch_size
        self.position = Position()

    def setup(self, stage: str) -> None:
        """Begin at the first batch, and set the accumulation that `global_batch_size` needs.

        Raises:
            UserError: if the Trainer is given another accumulation.
        """
        if stage != "fit":
            return
        self.position = Position()  # Lightning loads a checkpoint after this
        if self.global_batch_size is not None and self.trainer is not None:
            needed = self.accumulation(self.trainer.world_size)
            check_accumulation(self.global_batch_size, needed, self.trainer.accumulate_grad_batches)
            self.trainer.accumulate_grad_batches = needed

    def accumulation(self, world_size: int) -> int:
        """Micro-batches per optimizer step; 1 without `global_batch_size`.

        Raises:
            UserError: if `global_batch_size` is not a whole number of micro-batches.
        """
        return accumulation(self.global_batch_size, self.batch_size, world_size)

    def reached(self) -> Position | None:
        """Where the last optimizer step of `fit` left training; None if no training has begun."""
        return Position.reached(self.trainer, self.batch_size)

    def state_dict(self) -> dict[str, Any]:
        """Where training is in the data."""
        position = self.reached()
        return {} if position is None else position.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue there."""
        self.position = Position.from_state(state_dict)

    def _fit_batch_size(self, examples: int) -> None:
        """Reduce a batch size that was set after construction to one that fits so many training examples."""
        _, world_size = self._rank()
        size = largest_batch_size(self.batch_size, examples, self.global_batch_size, world_size)
        if size != self.batch_size:
            rank_zero_warn(
                f"batch size {self.batch_size} does not fit data.global_batch_size {self.global_batch_size} "
                f"and {examples} training sequences; using {size}"
            )
            self.batch_size = size
        if self.global_batch_size is not None and self.trainer is not None:
            self.trainer.accumulate_grad_batches = self.accumulation(world_size)

    def _device(self) -> torch.device:
        if self.trainer is not None:
            return self.trainer.strategy.root_device
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")

    def _precision(self) -> AbstractContextManager[None]:
        return nullcontext() if self.trainer is None else self.trainer.precision_plugin.forward_context()

    def _rank(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
