"""How far each solver ends from a fine solution of the same flow, at equal numbers of network calls.

    python -m benchmarks.solver_error --checkpoint runs/quickstart

All runs start from the same noise, and no noise is added on the way; the reference takes 2,048 even steps of
Euler. Self-conditioning makes the field depend
on the calls before, so a finer solution is another path, not only a better one: the table says whether the
order of a solver helps all the same. Heun, which calls the network twice in each step but the last, makes one
call fewer than the others. The error is the root mean square distance of the final latents from the
reference, over the root mean square of the reference; beside it the share of tokens that are the same.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from elf_lightning.errors import UserError
from elf_lightning.generation.pretrained import ELF
from elf_lightning.sampling import SampleResult

STEPS_FOR_CALLS: dict[str, Callable[[int], int]] = {
    "ode": lambda calls: calls,
    "multistep": lambda calls: calls,
    "heun": lambda calls: (calls + 1) // 2,
}
"""Solver -> steps that make no more than so many network calls."""


@dataclass(frozen=True)
class Line:
    """One row of the table.

    Attributes:
        solver: its name.
        grid: where its times lie.
        calls: how often it calls the network.
        error: of the final latents, relative to the reference.
        same_tokens: share of tokens that the reference decodes to as well.
    """

    solver: str
    grid: str
    calls: int
    error: float
    same_tokens: float


def sampled(model: ELF, rows: int, seed: int, **settings: object) -> SampleResult:
    """`rows` texts from the same noise at any settings."""
    prompt, _ = model.rows.batch(model.rows.plans(rows), 0, model.device)
    return model.sampler(**settings).sample(prompt, seed)


def measure(model: ELF, rows: int, seed: int, reference_steps: int, budgets: list[int]) -> list[Line]:
    """Every solver on both grids at every number of calls."""
    fine = sampled(model, rows, seed, solver="ode", grid="uniform", steps=reference_steps)
    scale = fine.latents.square().mean().sqrt()
    lines = []
    for grid in ("uniform", "logit_normal"):
        for solver, steps in STEPS_FOR_CALLS.items():
            for budget in budgets:
                result = sampled(model, rows, seed, solver=solver, grid=grid, steps=steps(budget))
                calls = 2 * steps(budget) - 1 if solver == "heun" else budget
                error = (result.latents - fine.latents).square().mean().sqrt() / scale
                same = (result.tokens == fine.tokens).float().mean()
                lines.append(Line(solver, grid, calls, error.item(), same.item()))
    return lines


def show(lines: list[Line], console: Console) -> None:
    """The table in the terminal."""
    table = Table("solver", "grid", "network calls", "error", "same tokens")
    for line in lines:
        table.add_row(line.solver, line.grid, str(line.calls), f"{line.error:.3f}", f"{line.same_tokens:.1%}")
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reference-steps", type=int, default=2048)
    parser.add_argument("--calls", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    try:
        model = ELF.from_pretrained(options.checkpoint, precision="32-true")
        lines = measure(model, options.rows, options.seed, options.reference_steps, options.calls)
    except UserError as error:
        sys.exit(str(error))
    show(lines, Console())
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps([asdict(line) for line in lines], indent=2))


if __name__ == "__main__":
    main()
