"""Golden values replayed on the GPU, and mixed precision beside float32.

    PYTHONPATH=src:.cache/gpu/site python -m benchmarks.gpu.golden --json golden.json

Float32 without TF32 must be within 1e-4 of the recorded values; losses of bf16-mixed training within 1% of
float32 over 200 steps at the same draws. Ends with status 1 otherwise.
"""

from __future__ import annotations

import argparse
import itertools
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from benchmarks.batches import RandomBatches
from benchmarks.gpu.replays import Recording, max_error, recorded_network, replays
from benchmarks.measure import Budget, run
from benchmarks.sizes import SIZES
from benchmarks.training import Training
from elf_lightning.objectives import ELFObjective

FOLDER = Path(__file__).parents[2] / "tests" / "golden"
TOLERANCE, LOSS_TOLERANCE = 1e-4, 0.01
LEARNING_RATE = 0.002
"""The published one."""
WINDOW = 20
"""Steps whose mean losses are compared: training amplifies rounding, and single steps may differ by more."""
COMPILING_SECONDS = 20.0
"""What a compiled replay takes, about."""
REPLAYS = 3
"""Of each compiled pass: as it is, recorded as a CUDA graph, and from the record."""


def replayed(folder: Path, device: torch.device, compiled: bool, budget: Budget) -> dict[str, float]:
    """The error of each golden file's replay; compiled, with CUDA graphs in training."""
    network, errors = recorded_network(folder, device), dict[str, float]()
    if compiled:
        network.compile()
        network.cuda_graphs = device.type == "cuda"
    rounds = itertools.product(range(REPLAYS if compiled else 1), replays(network, compiled).items())
    for number, (stem, replay) in rounds:  # one file after the other, so that each graph sees other inputs
        if budget.allows(f"{stem}{', compiled' * compiled}", COMPILING_SECONDS * (compiled and not number)):
            recording = Recording(folder / f"{stem}.safetensors", device)
            errors[stem] = max(errors.get(stem, 0.0), max_error(replay(recording)))
    return errors


def losses(options: argparse.Namespace, device: torch.device, budget: Budget) -> tuple[Tensor, Tensor]:
    """Training losses (steps) in float32 and bf16-mixed: the same batches, draws and initial values."""
    size, pairs = SIZES[options.size], list[Tensor]()
    batches, settings = RandomBatches(size, device), (LEARNING_RATE, options.steps // 10)
    trainings = [
        Training(size.network(device), ELFObjective(), *settings, mixed=way) for way in (False, True)
    ]
    for number in range(options.steps):
        if number and not budget.allows(f"step {number + 1} and later of both trainings"):
            break
        batch = batches(options.batch_size, number)
        pairs.append(torch.stack([training(batch) for training in trainings]))
    exact, mixed = torch.stack(pairs).cpu().unbind(1)
    return exact, mixed


def compared(exact: Tensor, mixed: Tensor) -> dict[str, float]:
    """Relative differences between the losses of mixed training and of float32."""
    window = min(WINDOW, len(exact))
    first, second = (values.unfold(0, window, window).mean(1) for values in (exact, mixed))
    return {
        "first_loss": exact[0].item(),
        "last_window_loss": first[-1].item(),
        "mean": ((mixed.mean() - exact.mean()).abs() / exact.mean()).item(),
        "worst_window": ((second - first).abs() / first).max().item(),
        "worst_step": ((mixed - exact).abs() / exact).max().item(),
    }


def passed(results: dict[str, Any]) -> bool:
    """Whether everything that was computed is within its tolerance."""
    errors = [*results["eager"].values(), *results["compiled"].values()]
    differences = [results["mixed"][name] for name in ("mean", "worst_window")]
    return bool(max(errors) <= TOLERANCE and max(differences) <= LOSS_TOLERANCE)


def errors_table(results: dict[str, Any]) -> Table:
    """Errors of all replays, eager and compiled."""
    table = Table("golden file", "eager", "compiled", title=f"Error, at most {TOLERANCE:g}")
    for stem, value in results["eager"].items():
        compiled = results["compiled"].get(stem)
        table.add_row(stem, f"{value:.1e}", "" if compiled is None else f"{compiled:.1e}")
    for name, value in results["mixed"].items():
        table.add_row(f"bf16-mixed: {name}", f"{value:.4f}", "")
    return table


def measure(options: argparse.Namespace, budget: Budget) -> tuple[list[object], dict[str, Any]]:
    """Replay and compare."""
    torch.set_float32_matmul_precision("highest")
    device, folder = torch.device(options.device), options.golden_dir
    results: dict[str, Any] = {"eager": replayed(folder, device, False, budget), "compiled": {}}
    exact, mixed = losses(options, device, budget)
    results["mixed"] = compared(exact, mixed)
    results["losses"] = {"float32": exact.tolist(), "bf16-mixed": mixed.tolist()}
    if budget.allows("compiled replays", COMPILING_SECONDS, skip=options.eager_only):
        results["compiled"] = replayed(folder, device, True, budget)
    replayable = replays(recorded_network(folder, device)).keys()
    recorded = sorted(path.stem for path in folder.glob("*.safetensors") if path.stem not in replayable)
    budget.left_out += [f"{stem}: has no replay here" for stem in recorded]
    results["passed"] = passed(results)
    return [errors_table(results), f"passed: {results['passed']}"], results


OPTIONS = {"golden_dir": FOLDER, "steps": 200, "batch_size": 8, "eager_only": False}
main = partial(run, measure, __doc__, "elf-b", "cuda", 1, 3, **OPTIONS)

if __name__ == "__main__":
    main()
