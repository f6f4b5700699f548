"""Loop counters of a checkpoint that agree with its weights."""

from typing import Any

from elf_lightning.data.resume import Position


def set_loop_counters(
    fit_loop: dict[str, Any], position: Position, batches_per_epoch: int, steps: int
) -> None:
    """Set the fit loop's counters, in place, to `position` (the next batch) after so many optimizer `steps`.

    What Lightning saves depends on the hook that saves. If a run stops within an epoch (`max_time`), the
    counters say that the epoch is over; between two accumulated micro-batches, a resumed run would miss the
    gradient of the first; after the last batch of an epoch, it would not start the next. From these, it
    always resumes with the batch at `position`. An interrupted validation is not repeated.
    """
    epoch, batch = position.epoch, position.batch
    started = epoch + 1 if batch else epoch
    # Lightning starts the epoch, including hooks, if `ready` and `started` differ; otherwise it continues it.
    epochs = {"ready": epoch + 1, "started": started, "processed": epoch, "completed": epoch}
    fit_loop["epoch_progress"] = {"total": epochs, "current": dict(epochs)}

    total = epoch * batches_per_epoch + batch
    fit_loop["epoch_loop.batch_progress"] = {
        # Lightning infers the hook that saved from `completed`: a lag of 0 or 1 is treated specially.
        "total": {"ready": total, "started": total, "processed": total, "completed": total - 2},
        "current": dict.fromkeys(("ready", "started", "processed", "completed"), batch),
        "is_last_batch": False,
    }
    # The x axis of all logs; Lightning adds one when it resumes.
    fit_loop["epoch_loop.state_dict"] = {"_batches_that_stepped": steps - 1}
    fit_loop.pop("epoch_loop.val_loop.batch_progress", None)
