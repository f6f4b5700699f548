"""A checkpoint's loop counters: where its weights stand, whichever hook wrote it."""

from __future__ import annotations

from typing import Any

from elf_lightning.data.resume import Position


def set_loop_counters(
    fit_loop: dict[str, Any], position: Position, batches_in_epoch: int, steps: int
) -> None:
    """Let the counters of a checkpoint say: stopped right after the last optimizer step.

    What Lightning's loops save depends on who asks when. After a run was stopped within an epoch (as
    `max_time` does) they claim that the epoch is over; between two accumulated micro-batches they go on
    without the first one's gradient; after an epoch's last batch they forget to begin the next one. Here all
    of them get one form, from which Lightning trains on with the batch at `position`. A validation that was
    cut short is not taken up again.

    Args:
        fit_loop: the state of Lightning's fit loop, which is changed.
        position: the next batch to train on.
        batches_in_epoch: micro-batches an epoch.
        steps: optimizer steps taken.
    """
    epoch, batch = position.epoch, position.batch
    begun = epoch + 1 if batch else epoch
    # With another `ready` than `started` Lightning begins the epoch, hooks included; else it goes on in it.
    epochs = {"ready": epoch + 1, "started": begun, "processed": epoch, "completed": epoch}
    fit_loop["epoch_progress"] = {"total": epochs, "current": dict(epochs)}

    total = epoch * batches_in_epoch + batch
    fit_loop["epoch_loop.batch_progress"] = {
        # `completed` tells Lightning which hook saved: one or none behind are hooks that it treats apart.
        "total": {"ready": total, "started": total, "processed": total, "completed": total - 2},
        "current": dict.fromkeys(("ready", "started", "processed", "completed"), batch),
        "is_last_batch": False,
    }
    # The x axis of all logs; one behind, since Lightning adds the step that it resumes after.
    fit_loop["epoch_loop.state_dict"] = {"_batches_that_stepped": steps - 1}
    fit_loop.pop("epoch_loop.val_loop.batch_progress")
