"""Where training is in the data, so that a resumed run continues with the next batch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import inf
from typing import Any, Self

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn

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
