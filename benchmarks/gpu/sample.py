"""Sampling on the GPU: eager, compiled and with CUDA graphs, against the obvious way.

    PYTHONPATH=src:.cache/gpu/site python -m benchmarks.gpu.sample --json sample.json

The stochastic solver at 32 steps on 64 rows in bfloat16, as published. Ratios are to the plain way, eager,
measured in turn with each in the same process.
"""

from __future__ import annotations

from typing import Any

import torch
from rich.table import Table

from benchmarks.gpu.budget import Budget, gpu_arguments
from benchmarks.rounds import Rounds, alternate, report
from benchmarks.sample import COMPILED, PLAIN, SAMPLER, Case, Way
from benchmarks.sizes import SIZES

GRAPHS = "sampler, compiled, CUDA graphs"
KIND = "without CFG"
COMPILING_SECONDS = 45.0
"""What compiling and a few rounds take, about."""


def groups(ways: dict[str, Way], compiling: bool) -> dict[str, dict[str, Way]]:
    """Ways that are measured together, always beside the plain one; each group compiles anew."""
    eager = {name: way for name, way in ways.items() if name != COMPILED}
    if not compiling:
        return {"eager": eager}
    pair = {PLAIN: ways[PLAIN], COMPILED: ways[COMPILED]}
    return {"eager": eager, COMPILED: pair, GRAPHS: {PLAIN: pair[PLAIN], GRAPHS: pair[COMPILED]}}


def measured(
    name: str, ways: dict[str, Way], rounds: int, device: torch.device, budget: Budget
) -> Rounds | None:
    """The group's times; None where CUDA graphs could not be recorded."""
    torch.compiler.reset()
    graphs = torch._inductor.config.patch({"triton.cudagraphs": name == GRAPHS})
    with graphs, torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        try:
            return alternate(ways, rounds, device, warmup=2)
        except RuntimeError as error:
            if name == "eager":
                raise
            budget.left_out.append(f"{name}: {str(error).splitlines()[0]}")
            return None


def add_lines(table: Table, case: Case, rounds: Rounds) -> None:
    """One line for each way."""
    texts = len(case.prompt)
    for way in rounds.seconds:
        seconds = rounds.time(way).median
        table.add_row(
            way,
            f"{texts / seconds:.2f}",
            f"{1e3 * seconds / case.settings.steps:.2f}",
            str(rounds.ratio(way, PLAIN)),
        )


def main() -> None:
    """Measure group after group, and report."""
    parser = gpu_arguments(__doc__, size="elf-b", minutes=3)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--eager-only", action="store_true", help="compile nothing")
    options = parser.parse_args()
    budget, device = Budget(options.minutes), torch.device(options.device)
    torch.set_float32_matmul_precision("high")
    case = Case.of(SIZES[options.size], KIND, options.rows, options.steps, options.device)
    table = Table("", title=f"Sampling: {options.size}, {options.rows} rows, {options.steps} steps")
    for heading in ("samples/s", "ms a step", "times plain"):
        table.add_column(heading, justify="right")
    records: dict[str, Any] = {}
    for name, ways in groups(case.ways(compile=True), not options.eager_only).items():
        if not budget.allows(name, 0.0 if name == "eager" else COMPILING_SECONDS):
            continue
        rounds = measured(name, ways, options.rounds, device, budget)
        if rounds is not None:
            add_lines(table, case, rounds)
            records[name] = rounds.record(PLAIN)
    if device.type == "cuda":
        records["peak_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
    results = {
        "size": options.size,
        "rows": options.rows,
        "steps": options.steps,
        "left_out": budget.left_out,
    }
    report([table, budget.told()], {**results, "groups": records, "reference": SAMPLER}, options)


if __name__ == "__main__":
    main()
