"""Where training stands in the data, so that a resumed run goes on with the next batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Position:
    """The next batch to train on.

    Attributes:
        epoch: its epoch.
        batch: its number in that epoch.
    """

    epoch: int = 0
    batch: int = 0

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """From `progress_of`; after a finished epoch, the next one's first batch."""
        if state["batches"] >= state["batches_in_epoch"]:
            return cls(state["epoch"] + 1)
        return cls(state["epoch"], state["batches"])


def progress_of(fit_loop: Any, batches_in_epoch: int) -> dict[str, int]:
    """What Lightning's fit loop has trained on.

    The epoch is the one last begun, which `epoch_progress.processed` is no longer after its end, and a
    batch counts when it is processed: `completed` is one behind where a callback saves after a batch.
    """
    return {
        "epoch": max(0, fit_loop.epoch_progress.current.ready - 1),
        "batches": fit_loop.epoch_loop.batch_progress.current.processed,
        "batches_in_epoch": batches_in_epoch,
    }
