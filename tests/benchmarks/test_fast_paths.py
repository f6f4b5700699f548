"""Every fast path gives what stands in its place without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
import torch
from benchmarks.fast_paths import OURS, WITHOUT, main, stepping
from benchmarks.sizes import SIZES
from torch import Tensor
from torch.testing import assert_close

from benchmarks import fast_paths

CPU = torch.device("cpu")


def stepped(name: str) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Loss, weights and averages after two steps."""
    training, step = stepping(SIZES["tiny"], CPU, name)
    step()
    return step(), list(training.network.parameters()), training.averages


@pytest.mark.parametrize("name", WITHOUT)
def test_steps_end_in_the_same_weights_without_it(name: str) -> None:
    assert_close(stepped(name), stepped(OURS), rtol=1e-3, atol=1e-5)


def test_a_replacement_that_differs_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    double = patch.object(fast_paths.blocks, "rotate", lambda x, rotary: 2 * x)
    monkeypatch.setitem(WITHOUT, "double", double)
    with pytest.raises(AssertionError):
        assert_close(stepped("double"), stepped(OURS), rtol=1e-3, atol=1e-5)


def test_whole_steps_are_compared(
    run_measured: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    steps = run_measured(main)["steps"]
    assert list(steps) == [OURS, *WITHOUT]
    assert steps[OURS]["percent_longer"] == {"median": 0, "low": 0, "high": 0}
    assert all(len(one["seconds"]) == 2 for one in steps.values())
    assert "without rotation" in capsys.readouterr().out
