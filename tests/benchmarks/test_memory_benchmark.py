"""The measured peak."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from benchmarks.memory import peak_bytes, step_bytes
from benchmarks.sizes import SIZES


def test_the_peak_counts_what_lives_at_a_time() -> None:
    given = torch.zeros(100_000)

    def compute() -> None:
        kept = given + 1
        for _ in range(3):
            (kept * 2).add_(1)
        kept.view(10, 10_000)

    assert peak_bytes(compute, torch.device("cpu")) == pytest.approx(800_000, rel=0.01)


def test_gradient_checkpointing_lowers_the_peak() -> None:
    size, peaks = SIZES["bible"], []
    for checkpointing in (False, True):
        config = replace(size.config, depth=8, gradient_checkpointing=checkpointing)
        peaks.append(step_bytes(replace(size, config=config), torch.device("cpu"), mixed=False))
    assert peaks[1] < 0.7 * peaks[0]
