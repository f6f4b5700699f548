"""Floating-point settings while a command runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALLEST = torch.finfo(torch.float32).smallest_normal


@contextmanager
def arithmetic_of_a_command() -> Iterator[None]:
    """Flush denormal numbers to zero in this thread and in the threads it starts.

    Activations behind nearly closed gates become denormal in training, and CPUs handle denormals so slowly
    that the steps of a small network take a few percent longer. Torch starts its threads with its first
    large operation, so this must be entered before.

    On exit, the calling thread's settings are restored, including the precision of matrix products.
    Existing threads are not affected; threads started inside keep flushing.
    """
    were_flushed = bool(torch.tensor(SMALLEST).mul(0.5) == 0)
    matmul_precision = torch.get_float32_matmul_precision()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(were_flushed)
        torch.set_float32_matmul_precision(matmul_precision)
