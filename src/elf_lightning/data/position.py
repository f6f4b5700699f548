"""Where training stands in the data, so that a resumed run goes on with the next batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Position:
    """The next batch to train on.

    Attributes:
        epoch: its epoch.
        batch: its number in that epoch.
        batch_rows: rows of a batch, over all devices; None where no batch has been counted.
    """

    epoch: int = 0
    batch: int = 0
    batch_rows: int | None = None

    @classmethod
    def after_last_step(cls, batches: int, batches_in_epoch: int, accumulation: int, batch_rows: int) -> Self:
        """What follows the last optimizer step's micro-batches.

        The gradients of micro-batches since then are in no checkpoint, so these come once more. An epoch's
        last step takes what is left of it.

        Args:
            batches: micro-batches trained on, in all epochs together.
            batches_in_epoch: of one epoch.
            accumulation: micro-batches an optimizer step.
            batch_rows: rows of a micro-batch, over all devices.
        """
        epoch, batch = divmod(batches, batches_in_epoch)
        return cls(epoch, batch - batch % accumulation, batch_rows)
