"""A checkpoint's loop counters, which must describe the state of its weights."""

from __future__ import annotations

from typing import Any

from elf_lightning.data.resume import Position


def set_loop_counters(
    fit_loop: dict[str, Any], position: Position, batches_per_epoch: int, steps: int
) -> None:
    """Make the counters of a checkpoint say: stopped right after the last optimizer step.

    What Lightning's loops save depends on which hook saves. After a run was stopped within an epoch (as
    `max_time` does) they claim that the epoch is over; between two accumulated micro-batches they would
    resume without the first one's gradient; after an epoch's last batch they forget to start the next. Here
    all of them get the same form, from which Lightning resumes with the batch at `position`. A validation
    that was cut short is not repeated.

    Args:
        fit_loop: the state of Lightning's fit loop, which is changed.
        position: the next batch to train on.
        batches_per_epoch: micro-batches per epoch.
        steps: optimizer steps taken.
    """
    epoch, batch = position.epoch, position.batch
    started = epoch + 1 if batch else epoch
    # If `ready` and `started` differ, Lightning starts the epoch, hooks included; else it continues it.
    epochs = {"ready": epoch + 1, "started": started, "processed": epoch, "completed": epoch}
    fit_loop["epoch_progress"] = {"total": epochs, "current": dict(epochs)}

    total = epoch * batches_per_epoch + batch
    fit_loop["epoch_loop.batch_progress"] = {
        # From `completed` Lightning infers which hook saved: one or none behind are treated specially.
        "total": {"ready": total, "started": total, "processed": total, "completed": total - 2},
        "current": dict.fromkeys(("ready", "started", "processed", "completed"), batch),
        "is_last_batch": False,
    }
    # The x axis of all logs; one behind, since Lightning adds the step that it resumes after.
    fit_loop["epoch_loop.state_dict"] = {"_batches_that_stepped": steps - 1}
    fit_loop.pop("epoch_loop.val_loop.batch_progress")
