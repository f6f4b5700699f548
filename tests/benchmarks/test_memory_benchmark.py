"""The measured peak, and the formula's distance from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from benchmarks.memory import PeakBytes, compare
from benchmarks.sizes import SIZES


def test_the_peak_counts_what_lives_at_a_time() -> None:
    given = torch.zeros(1000)
    with PeakBytes() as peak:
        kept = given + 1
        for _ in range(3):
            (kept * 2).add_(1)
        kept.view(10, 100)
    assert peak.peak == 8000
    assert peak.live == 4000


def near(measured: int, formula: dict[str, int]) -> bool:
    """Gradients take the place of activations, so that the formula tends to lie above."""
    return 0.9 < sum(formula.values()) / measured < 1.4


def test_the_formula_is_near_what_a_step_needs() -> None:
    size = SIZES["quickstart"]
    peaks = []
    for checkpointing in (False, True):
        shape = replace(size.shape, depth=8, gradient_checkpointing=checkpointing)
        measured, formula = compare(replace(size, shape=shape), torch.device("cpu"), mixed=False)
        assert near(measured, formula)
        peaks.append(measured)
    assert peaks[1] < 0.7 * peaks[0]


@pytest.mark.slow
def test_elf_b_at_full_length() -> None:
    assert near(*compare(replace(SIZES["elf-b"], batch_size=2), torch.device("cpu"), mixed=False))
