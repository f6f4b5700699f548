"""How far each solver ends from a fine solution of the same flow, at equal numbers of network calls.

    python -m benchmarks.solver_error --checkpoint runs/bible

All runs start from the same noise and add none; the reference takes 2,048 even Euler steps. The error is the
RMS distance of the final latents from the reference, over the RMS of the reference. With self-conditioning
the field depends on earlier calls, so that a finer solution is also another path: the table shows whether
the order of a solver helps all the same. Heun calls the network twice in each step but the last.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from rich.table import Table

from benchmarks.measure import Budget, new_table, run
from elf_lightning.errors import UserError
from elf_lightning.generation import ELF
from elf_lightning.sampling import SampleResult

CALLS = (8, 16, 32)
STEPS_FOR_CALLS: dict[str, Callable[[int], int]] = {
    "ode": lambda calls: calls,
    "multistep": lambda calls: calls,
    "heun": lambda calls: (calls + 1) // 2,
}
"""Steps of each solver that make no more than so many network calls."""


def sampled(model: ELF, num: int, **settings: object) -> SampleResult:
    """`num` texts from the same noise at any settings."""
    prompt, _ = model.generator.batch(model.requests(num))
    return model.generator.sampler(model.changed_settings(**settings)).sample(prompt, seed=0)


def errors(
    model: ELF, num: int, reference_steps: int, calls: tuple[int, ...] = CALLS
) -> list[dict[str, Any]]:
    """Every solver on both grids at every number of calls."""
    fine = sampled(model, num, solver="ode", grid="uniform", steps=reference_steps)
    scale, lines = fine.latents.square().mean().sqrt(), []
    for grid in ("uniform", "logit_normal"):
        for solver, steps in STEPS_FOR_CALLS.items():
            for most in calls:
                result = sampled(model, num, solver=solver, grid=grid, steps=steps(most))
                error = ((result.latents - fine.latents).square().mean().sqrt() / scale).item()
                same = (result.tokens == fine.tokens).float().mean().item()
                made = 2 * steps(most) - 1 if solver == "heun" else most
                line = {"solver": solver, "grid": grid, "calls": made}
                lines.append({**line, "error": error, "same_tokens": same})
    return lines


def measure(options: argparse.Namespace, _: Budget) -> tuple[list[Table], dict[str, Any]]:
    """The table of all errors."""
    try:
        model = ELF.from_pretrained(options.checkpoint, precision="32-true", device=options.device)
        lines = errors(model, options.num, options.reference_steps)
    except UserError as error:
        sys.exit(str(error))
    table = new_table("Solver error", "solver", "grid", "network calls", "error", "same tokens")
    for line in lines:
        solver, grid, calls, error, same = line.values()
        table.add_row(solver, grid, str(calls), f"{error:.3f}", f"{same:.1%}")
    return [table], {"lines": lines}


main = partial(run, measure, __doc__, checkpoint="runs/bible", num=32, reference_steps=2048)

if __name__ == "__main__":
    main()
