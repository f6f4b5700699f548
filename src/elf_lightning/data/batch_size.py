"""What a batch size leads to: batches in an epoch, and accumulation up to the global batch size."""

from __future__ import annotations

from elf_lightning.errors import UserError


def whole_batches(examples: int, batch_size: int, world_size: int) -> int:
    """Batches in an epoch on each device.

    Raises:
        UserError: if there is none.
    """
    if batches := examples // (batch_size * world_size):
        return batches
    raise UserError(
        f"data.batch_size {batch_size} x {world_size} device(s) is more than the {examples} training "
        "sequences; choose a smaller one or give more text"
    )


def accumulation(global_batch_size: int | None, batch_size: int, world_size: int) -> int:
    """Micro-batches per optimizer step; 1 without a global batch size.

    Raises:
        UserError: if the global batch is not a whole number of micro-batches.
    """
    together = batch_size * world_size
    examples = together if global_batch_size is None else global_batch_size
    if examples < 1 or examples % together:
        raise UserError(
            f"data.global_batch_size {examples} is no multiple of data.batch_size {batch_size} x "
            f"{world_size} device(s); change one of them"
        )
    return examples // together


def check_accumulation(global_batch_size: int, needed: int, asked: int) -> None:
    """The Trainer's accumulation, if given, must be what the global batch size needs.

    Raises:
        UserError: if it is not.
    """
    if asked not in (1, needed):
        raise UserError(
            f"trainer.accumulate_grad_batches {asked} contradicts data.global_batch_size "
            f"{global_batch_size}, which needs {needed}; leave out one of them"
        )


def largest_batch_size(asked: int, examples: int, global_batch_size: int | None, world_size: int) -> int:
    """The largest batch size up to `asked` that the corpus fills and that divides the global batch size."""
    largest = min(asked, examples // world_size)
    if global_batch_size is not None and not global_batch_size % world_size:
        per_device = global_batch_size // world_size
        largest = max(size for size in range(1, max(1, largest) + 1) if not per_device % size)
    return max(1, largest)
