"""Floating-point settings of the processor while a command runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALLEST = torch.finfo(torch.float32).smallest_normal


@contextmanager
def arithmetic_of_a_command() -> Iterator[None]:
    """Calculate with zero in place of denormal numbers in this thread and in those that it starts first.

    What flows through gates that are nearly closed becomes denormal in training, and a CPU calculates with
    such numbers so slowly that a small network's steps take some percent longer. Torch starts its threads
    with its first large operation, so this must come before.

    After it the calling thread has its own way of calculating again, the precision of matrix products
    included. Threads that were there before are not touched, and those started here keep to zeros.
    """
    were_flushed = bool(torch.tensor(SMALLEST).mul(0.5) == 0)
    matmul_precision = torch.get_float32_matmul_precision()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(were_flushed)
        torch.set_float32_matmul_precision(matmul_precision)
