"""The learning rate: scaling by the batch size, warm-up and decay."""

from __future__ import annotations

from math import cos, pi
from typing import Literal, get_args

from elf_lightning.errors import UserError

Decay = Literal["constant", "cosine"]
DECAYS: tuple[str, ...] = get_args(Decay)


def scaled_learning_rate(base_learning_rate: float, global_batch_size: int) -> float:
    """`base_learning_rate * global_batch_size / 256`: 0.001 becomes 0.002 at 512 sequences.

    Raises:
        UserError: an empty global batch.
    """
    if global_batch_size < 1:
        raise UserError(f"global_batch_size={global_batch_size}: give at least 1 sequence per step")
    return base_learning_rate * global_batch_size / 256


def learning_rate_factor(step: int, warmup_steps: int, total_steps: float, decay: Decay) -> float:
    """The factor of the learning rate in step `step`, counted from 0 as in optax.

    Warm-up is linear from 0: the first step has factor 0, and step `warmup_steps` is the first at the full
    rate. Then the rate stays constant, or follows half a cosine that would reach 0 in step `total_steps`, the
    first one after the run.
    """
    if step < warmup_steps:
        return step / warmup_steps
    if decay == "constant" or step == warmup_steps:
        return 1.0
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1.0 + cos(pi * min(1.0, progress)))
