"""The GPU's golden replays, run on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.gpu.golden import TOLERANCE, compared, main, passed
from benchmarks.gpu.replays import Recording, max_error, recorded_network, replays
from torch import Tensor

CPU = torch.device("cpu")


def test_golden_files_replay_and_precisions_agree(
    golden_dir: Path, run_measured: Callable[..., dict[str, Any]]
) -> None:
    written = run_measured(main, "--eager-only", "--steps", "8", "--golden-dir", str(golden_dir))
    assert written["passed"]
    assert len(written["eager"]) == 10
    assert max(written["eager"].values()) < 5e-5
    assert len(written["losses"]["float32"]) == 8
    assert written["losses"]["float32"] != written["losses"]["bf16-mixed"]
    assert any(entry.startswith("collate") for entry in written["left_out"])


@pytest.mark.parametrize("stem", ["network", "train_cond", "distill_step", "sample_sde"])
def test_golden_errors_of_other_weights_are_seen(stem: str, golden_dir: Path) -> None:
    network = recorded_network(golden_dir, CPU)
    with torch.no_grad():
        network.blocks[1].mlp.out.bias += 0.01
    run = Recording(golden_dir / f"{stem}.safetensors", CPU)
    assert max_error(replays(network)[stem](run)) > TOLERANCE


@pytest.mark.parametrize(
    ("result", "recorded", "expected"),
    [
        (torch.tensor([1.0, 5.0]), torch.tensor([1.0, 4.0]), 0.2),
        (torch.tensor([torch.nan]), torch.tensor([4.0]), float("inf")),
        (torch.tensor([3]), torch.tensor([4]), float("inf")),
        (torch.tensor(3.0), torch.tensor([3.0]), float("inf")),
        (torch.tensor([3]), torch.tensor([3]), 0.0),
    ],
)
def test_error(result: Tensor, recorded: Tensor, expected: float) -> None:
    assert max_error(iter([(result, recorded)])) == pytest.approx(expected)


def test_losses_that_differ_by_more_are_seen() -> None:
    exact = torch.linspace(3, 2, 40)
    results = {"eager": {"network": 0.0}, "compiled": {}, "mixed": compared(exact, 1.005 * exact)}
    assert passed(results)
    results["mixed"] = compared(exact, 1.02 * exact)
    assert not passed(results)
