"""The course of the learning rate: its size, its warm-up and its decay."""

from __future__ import annotations

from math import cos, pi
from typing import Literal, get_args

from elf_lightning.errors import UserError

Decay = Literal["constant", "cosine"]
DECAYS: tuple[str, ...] = get_args(Decay)


def scaled_learning_rate(base_learning_rate: float, global_batch_size: int) -> float:
    """`base_learning_rate * global_batch_size / 256`: 0.001 becomes 0.002 at 512 rows.

    Raises:
        UserError: a global batch of no rows.
    """
    if global_batch_size < 1:
        raise UserError(f"global_batch_size={global_batch_size}: a step needs at least one row")
    return base_learning_rate * global_batch_size / 256


def learning_rate_factor(step: int, warmup_steps: int, total_steps: float, decay: Decay) -> float:
    """What the learning rate is multiplied by in step `step`, counted from 0, as optax counts.

    Warm-up is linear from 0: the first step's factor is 0 and it moves nothing, step `warmup_steps` is the
    first at the full rate. After it the rate stays, or falls on half a cosine that would reach 0 in step
    `total_steps`, the first that is not run.
    """
    if step < warmup_steps:
        return step / warmup_steps
    if decay == "constant" or step == warmup_steps:
        return 1.0
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1.0 + cos(pi * min(1.0, progress)))
