"""Peak memory of the losses and gradients of a training step.

    python -m benchmarks.memory --size elf-b --batch-size 2 --json memory.json
    python -m benchmarks.memory --size elf-b --batch-size 16 --device cuda --precision bf16

`whole step` adds the weights, their average and the state of the optimizer.
"""

from __future__ import annotations

import argparse
import gc
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from benchmarks.batches import RandomBatches
from benchmarks.measure import Budget, Function, new_table, run
from benchmarks.sizes import SIZES, Size
from benchmarks.training import Training
from elf_lightning.network import ELFNetwork
from elf_lightning.objectives import StepKey
from elf_lightning.optim import split_parameters


def peak_bytes(function: Function, device: torch.device) -> int:
    """Largest number of bytes that `function` holds at a time beyond what was allocated before."""
    gc.collect()  # otherwise, what others left behind may be freed meanwhile
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        return int(torch.cuda.max_memory_allocated(device) - before)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    # Not `profiler.events()`, which sums up what operators allocate.
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]  # type: ignore[union-attr]
    changes = (event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    return int(max(accumulate(changes)))


def kept_bytes(network: ELFNetwork) -> int:
    """Bytes kept between steps: weights, their average and the state of the optimizer."""
    matrices, others = (sum(p.numel() for p in part.values()) for part in split_parameters(network))
    return 4 * (3 * matrices + 4 * others)


def step_bytes(size: Size, device: torch.device, mixed: bool) -> int:
    """Measured bytes of losses and gradients.

    A fifth of the sequences decode and two fifths self-condition, if possible at least one of each.
    """
    training = Training(size.network(device), size.objective, mixed=mixed)
    batch = RandomBatches(size, device)(size.batch_size)
    decode = max(1, round(0.2 * size.batch_size))
    self_cond = min(size.batch_size - decode, max(1, round(0.4 * size.batch_size)))
    draws = size.objective.draw(batch.latents.shape, StepKey(0, 0, 0), device)
    return peak_bytes(lambda: training.backward(batch, draws.with_counts(decode, self_cond)), device)


def measure(options: argparse.Namespace, _: Budget) -> tuple[list[Table], dict[str, Any]]:
    """With and without gradient checkpointing."""
    size = replace(SIZES[options.size], batch_size=options.batch_size)
    title = f"Memory of losses and gradients, {options.size}, {options.batch_size} sequences, MB"
    table, record = new_table(title, "", "measured", "whole step"), dict[str, Any]()
    kept = kept_bytes(size.network("meta"))
    for checkpointing in (False, True):
        name = f"{'with' if checkpointing else 'without'} gradient checkpointing"
        changed = replace(size, config=replace(size.config, gradient_checkpointing=checkpointing))
        measured = step_bytes(changed, torch.device(options.device), options.precision == "bf16")
        record[name] = {"measured": measured, "kept": kept}
        table.add_row(name, *(f"{number / 1e6:,.0f}" for number in (measured, measured + kept)))
    return [table], {"bytes": record}


main = partial(run, measure, __doc__, size="elf-b", batch_size=2, precision=("float32", "bf16"))

if __name__ == "__main__":
    main()
