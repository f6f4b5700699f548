"""Golden values replayed on the GPU, and mixed precision beside float32.

    PYTHONPATH=src python -m benchmarks.gpu.golden --json golden.json

Float32 (TF32 off) must be within 1e-4 of the recorded values; the losses of bfloat16-mixed training within 1%
of float32 over 200 steps on the same rows at the same draws. Ends with status 1 where one is not.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from benchmarks.gpu.budget import Budget, gpu_arguments
from benchmarks.gpu.replays import Recording, error, recorded_network, replays
from benchmarks.gpu.steps import MadeUpRows, Training
from benchmarks.rounds import report
from benchmarks.sizes import SIZES
from elf_lightning.objectives import ELFObjective
from elf_lightning.optim import MuonSettings, Schedule

FOLDER = Path(__file__).parents[2] / "tests" / "golden"
TOLERANCE = 1e-4
LOSS_TOLERANCE = 0.01
LEARNING_RATE = 0.002
"""The published one, at a global batch of 512 rows."""
WINDOW = 20
"""Steps whose mean losses are compared: training amplifies rounding, so single steps may differ by more."""
COMPILING_SECONDS = 25.0
"""What a compiled replay takes, about."""


def replayed(folder: Path, device: torch.device, compiled: bool, budget: Budget) -> dict[str, float]:
    """The error of each golden file's replay."""
    network = recorded_network(folder, device)
    if compiled:
        network.compile()
    needed = COMPILING_SECONDS if compiled else 0.0
    errors = {}
    for stem, replay in replays(network, compiled).items():
        if budget.allows(f"{stem}, {'compiled' if compiled else 'eager'}", needed):
            errors[stem] = error(replay(Recording(folder / f"{stem}.safetensors", device)))
    return errors


def losses(options: argparse.Namespace, device: torch.device, budget: Budget) -> tuple[Tensor, Tensor]:
    """Training losses (steps) in float32 and bfloat16-mixed: the same rows, draws and initial values."""
    size, rows, steps = SIZES[options.size], options.rows, options.steps
    batches = MadeUpRows(size, device)
    optimizer, schedule = MuonSettings(LEARNING_RATE * 256 / rows), Schedule(warmup_steps=steps // 10)
    exact, mixed = (
        Training(size.network(device), ELFObjective(), optimizer, schedule, rows=rows, mixed=way)
        for way in (False, True)
    )
    pairs = []
    for number in range(steps):
        if number and not budget.allows(f"step {number + 1} and later of both trainings"):
            break
        batch = batches(rows, number)
        pairs.append(torch.stack([training(batch) for training in (exact, mixed)]))
    first, second = torch.stack(pairs).cpu().unbind(1)
    return first, second


def compared(exact: Tensor, mixed: Tensor) -> dict[str, float]:
    """How far the losses of mixed training are from those in float32, relatively."""
    apart = (mixed - exact).abs() / exact
    window = min(WINDOW, len(exact))
    means = [values.unfold(0, window, window).mean(1) for values in (exact, mixed)]
    return {
        "first_loss": exact[0].item(),
        "last_window_loss": means[0][-1].item(),
        "mean": ((mixed.mean() - exact.mean()).abs() / exact.mean()).item(),
        "worst_window": ((means[1] - means[0]).abs() / means[0]).max().item(),
        "worst_step": apart.max().item(),
    }


def passed(results: dict[str, Any]) -> bool:
    """Whether all that was computed is within its tolerance."""
    errors = [*results["eager"].values(), *results["compiled"].values()]
    apart = max(results["mixed"][name] for name in ("mean", "worst_window"))
    return bool(max(errors) <= TOLERANCE and apart <= LOSS_TOLERANCE)


def table_of(results: dict[str, Any]) -> Table:
    """Errors of all replays, eager and compiled."""
    table = Table("golden file", "eager", "compiled", title=f"Error, at most {TOLERANCE:g}")
    for stem, value in results["eager"].items():
        compiled = results["compiled"].get(stem)
        table.add_row(stem, f"{value:.1e}", "" if compiled is None else f"{compiled:.1e}")
    for name, value in results["mixed"].items():
        table.add_row(f"bf16-mixed: {name}", f"{value:.4f}", "")
    return table


def main() -> None:
    """Replay, compare, report."""
    parser = gpu_arguments(__doc__, size="elf-b", minutes=3)
    parser.add_argument("--golden-dir", type=Path, default=FOLDER)
    parser.add_argument("--steps", type=int, default=200, help="of training in both precisions")
    parser.add_argument("--rows", type=int, default=8, help="of a training step")
    parser.add_argument("--eager-only", action="store_true", help="compile nothing")
    options = parser.parse_args()
    torch.set_float32_matmul_precision("highest")
    device, budget = torch.device(options.device), Budget(options.minutes)
    results: dict[str, Any] = {"eager": replayed(options.golden_dir, device, False, budget), "compiled": {}}
    exact, mixed = losses(options, device, budget)
    results["mixed"] = compared(exact, mixed)
    results["losses"] = {"float32": exact.tolist(), "bf16-mixed": mixed.tolist()}
    if not options.eager_only:
        results["compiled"] = replayed(options.golden_dir, device, True, budget)
    recorded = {path.stem for path in options.golden_dir.glob("*.safetensors")}
    budget.left_out += [f"{stem}: has no replay here" for stem in sorted(recorded - results["eager"].keys())]
    results |= {"passed": passed(results), "left_out": budget.left_out}
    report([table_of(results), budget.told(), f"passed: {results['passed']}"], results, options)
    raise SystemExit(0 if results["passed"] else 1)


if __name__ == "__main__":
    main()
