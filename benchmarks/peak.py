"""What this machine reaches in one large matrix product: the limit that a step is held against."""

from __future__ import annotations

import torch

from benchmarks.rounds import timed


def measured_peak(device: torch.device | str, dtype: torch.dtype, size: int = 0, repeats: int = 5) -> float:
    """FLOPs a second of the fastest of `repeats` products of square matrices.

    Args:
        device: of the matrices.
        dtype: of the matrices.
        size: their side; 2048 on a CPU and 8192 elsewhere by default.
        repeats: after one that does not count.
    """
    side = size or (2048 if torch.device(device).type == "cpu" else 8192)
    left, right = torch.randn(2, side, side, device=device).to(dtype)
    product = torch.empty_like(left)
    seconds = [timed(lambda: torch.mm(left, right, out=product), device) for _ in range(1 + repeats)]
    return 2 * side**3 / min(seconds[1:])
