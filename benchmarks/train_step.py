"""A training step by its parts, and beside the baseline.

    python -m benchmarks.train_step --size bible --device cpu --json train_step.json
    python -m benchmarks.train_step --size elf-b --only optimizer
    python -m benchmarks.train_step --size elf-b --only flops
    python -m benchmarks.train_step --size elf-b --device cuda --precision bf16 --compile --batch-size 64

Both take the same batch, the same draws and the same optimizer settings, in turn, in one process, and must
agree in the loss. `--only optimizer` compares one optimizer step, which must end in the same weights; `--only
flops` counts FLOPs and runs nothing.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.baseline.training import BaselineOptimizer, baseline_step_flops
from benchmarks.batches import RandomBatches, random_encoder
from benchmarks.measure import (
    Budget,
    Function,
    alternate,
    counted_flops,
    measured_peak,
    new_table,
    ratio_table,
    run,
)
from benchmarks.sizes import SIZES, Size
from benchmarks.training import BaselineTraining, Training, our_optimizer, timed_parts
from elf_lightning.network import ELFNetwork
from elf_lightning.network.flops import training_step_flops

LEARNING_RATE = 1e-3
Flops = dict[str, dict[str, float]]


def with_gradients(size: Size, device: torch.device | str) -> ELFNetwork:
    """A network of the size with random gradients, the same at every call."""
    network = size.network(device)
    generator = torch.Generator().manual_seed(1)
    for p in network.parameters():
        p.grad = torch.randn(p.shape, generator=generator).to(device)
    return network


def our_step_flops(size: Size) -> float:
    """FLOPs of losses and gradients, averaged over the draws."""
    counts = size.objective.mean_counts(size.batch_size)
    return training_step_flops(size.network("meta"), size.batch_size, size.max_length, *counts)


def counted(size: Size) -> dict[str, dict[str, float]]:
    """FLOPs of losses and gradients, and of the optimizer, of ours and the baseline."""
    network = with_gradients(size, "cpu")
    optimizers = {"baseline": BaselineOptimizer(network, LEARNING_RATE).step}
    optimizers["ours"] = our_optimizer(network, LEARNING_RATE).step  # type: ignore[assignment]
    return {
        "step": {"baseline": float(baseline_step_flops(size, size.batch_size)), "ours": our_step_flops(size)},
        "optimizer": {name: counted_flops(step) for name, step in optimizers.items()},
    }


def compare_steps(
    options: argparse.Namespace, size: Size, flops: Flops
) -> tuple[list[object], dict[str, Any]]:
    """Whole steps, and the parts of ours."""
    device, mixed = torch.device(options.device), options.precision == "bf16"
    batch = RandomBatches(size, device)(size.batch_size)
    ours = Training(size.network(device), size.objective, mixed=mixed)
    baseline = BaselineTraining(size.network(device), size.objective, mixed=mixed)
    if options.compile:
        ours.network.compile()
    torch.testing.assert_close(ours(batch), baseline(batch), rtol=2e-2 if mixed else 1e-4, atol=1e-5)
    steps = {"baseline": partial(baseline, batch), "ours": partial(ours, batch)}
    rounds = alternate(steps, options.rounds, device, warmup=2)
    with TemporaryDirectory() as folder:
        parts = timed_parts(ours, batch, random_encoder(size, folder, device), options.rounds)
    title = f"A training step, {options.size}, {size.batch_size} sequences of {size.max_length}"
    parts_table = new_table(title, "part of our step", "ms")
    for name in parts.seconds:
        parts_table.add_row(name, str(parts.milliseconds(name)))
    peak, seconds = measured_peak(device, torch.bfloat16 if mixed else torch.float32), rounds.median("ours")
    total = {name: flops["step"][name] + flops["optimizer"][name] for name in steps}
    speed, mfu = size.batch_size * size.max_length / seconds, flops["step"]["ours"] / seconds / peak
    used = f"ours: {speed:,.0f} tokens/s, MFU {mfu:.1%} of the measured peak of {peak / 1e9:,.0f} GFLOP/s"
    record = {"parts_milliseconds": {name: vars(parts.milliseconds(name)) for name in parts.seconds}}
    record |= {"steps": rounds.record("baseline"), "peak": peak, "tokens_per_second": speed, "mfu": mfu}
    return [ratio_table(title, rounds, "baseline", total, peak), parts_table, used], record


def compare_optimizers(
    options: argparse.Namespace, size: Size, flops: Flops
) -> tuple[list[object], dict[str, Any]]:
    """One optimizer step of both, on the same gradients."""
    device = torch.device(options.device)
    networks = [with_gradients(size, device) for _ in range(2)]
    baseline, ours = BaselineOptimizer(networks[0], LEARNING_RATE), our_optimizer(networks[1], LEARNING_RATE)
    steps: dict[str, Function] = {"baseline": baseline.step, "ours": ours.step}
    for step in steps.values():
        step()
    torch.testing.assert_close(*(list(network.parameters()) for network in networks), rtol=1e-4, atol=1e-5)
    rounds, peak = alternate(steps, options.rounds, device), measured_peak(device, torch.float32)
    title = f"One optimizer step, {options.size}; peak measured: {peak / 1e9:,.0f} GFLOP/s"
    table = ratio_table(title, rounds, "baseline", flops["optimizer"], peak)
    return [table], {"steps": rounds.record("baseline"), "peak": peak}


def measure(options: argparse.Namespace, _: Budget) -> tuple[list[object], dict[str, Any]]:
    """What `--only` asks for, and FLOPs."""
    size = SIZES[options.size]
    size = replace(size, batch_size=options.batch_size or size.batch_size)
    flops = counted(size)
    compare = {"step": compare_steps, "optimizer": compare_optimizers}.get(options.only)
    tables, record = compare(options, size, flops) if compare else ([], {})
    table = new_table(f"{options.size}, {size.batch_size} sequences", "GFLOPs", "baseline", "ours", "ratio")
    for name, one in flops.items():
        cells = (f"{number / 1e9:,.1f}" for number in one.values())
        table.add_row(name, *cells, f"{one['baseline'] / one['ours']:.2f}")
    return [*tables, table], {**record, "batch_size": size.batch_size, "flops": flops}


ONLY, PRECISION = ("step", "optimizer", "flops"), ("float32", "bf16")
main = partial(run, measure, __doc__, batch_size=int, compile=False, precision=PRECISION, only=ONLY)

if __name__ == "__main__":
    main()
