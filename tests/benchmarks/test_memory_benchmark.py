"""The measured peak, and how far the estimate is from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from benchmarks.memory import compare, peak_bytes
from benchmarks.sizes import SIZES


def test_the_peak_counts_what_lives_at_a_time() -> None:
    given = torch.zeros(100_000)

    def compute() -> None:
        kept = given + 1
        for _ in range(3):
            (kept * 2).add_(1)
        kept.view(10, 10_000)

    assert peak_bytes(compute, torch.device("cpu")) == pytest.approx(800_000, rel=0.01)


def near(measured: int, estimated: dict[str, int]) -> bool:
    """Gradients take the place of activations, and norms that are not fused, as on a CPU, keep more."""
    return 0.8 < sum(estimated.values()) / measured < 1.4


def test_the_estimate_is_near_what_a_step_needs() -> None:
    size = SIZES["bible"]
    peaks = []
    for checkpointing in (False, True):
        config = replace(size.config, depth=8, gradient_checkpointing=checkpointing)
        measured, estimated = compare(replace(size, config=config), torch.device("cpu"), mixed=False)
        assert near(measured, estimated)
        peaks.append(measured)
    assert peaks[1] < 0.7 * peaks[0]


@pytest.mark.slow
def test_elf_b_at_full_length() -> None:
    assert near(*compare(replace(SIZES["elf-b"], batch_size=2), torch.device("cpu"), mixed=False))
