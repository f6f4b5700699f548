"""A training step under torch's profiler: the largest kernels, gaps between kernels, waits for the device.

    PYTHONPATH=src:.cache/gpu/site python -m benchmarks.gpu.profile --json profile.json

Nothing may wait for the device inside a step: ends with status 1 if something does. On a CPU, operators stand
in for kernels.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from functools import partial
from typing import Any

import torch
from rich.table import Table
from torch.profiler import DeviceType, ProfilerActivity, profile, record_function

from benchmarks.batches import RandomBatches
from benchmarks.measure import Budget, new_table, run
from benchmarks.sizes import SIZES
from benchmarks.training import Training

STEP = "training step"
WAITS = ("cudaDeviceSynchronize", "cudaStreamSynchronize", "cudaEventSynchronize", "cudaMemcpy")
"""Calls in which the host waits; so it does in `cudaMemcpyAsync` to the host, which shows as Memcpy DtoH."""
COMPILING_SECONDS = 45.0


def profiled(size: str, batch_size: int, steps: int, device: torch.device, compiled: bool) -> list[Any]:
    """The profiler's events of a few steps, after as many and two more to warm up."""
    network, cuda = SIZES[size].network(device), device.type == "cuda"
    if compiled:
        network.compile()
    training = Training(network, SIZES[size].objective, mixed=cuda)
    batch = RandomBatches(SIZES[size], device)(batch_size)

    def step() -> None:
        with record_function(STEP):
            training(batch)

    for _ in range(steps + 2):
        step()
    with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * cuda) as profiler:
        for _ in range(steps):
            step()
        if cuda:
            torch.cuda.synchronize()
    return list(profiler.events())


def kernels(events: list[Any], cuda: bool) -> list[Any]:
    """The events that are kernels (on a CPU: operators without others inside).

    The profiler shows marked regions, such as a training step or `Optimizer.step`, on the device as well.
    """
    regions = {event.name for event in events if event.is_user_annotation}
    kind = DeviceType.CUDA if cuda else DeviceType.CPU
    found = [event for event in events if event.device_type == kind and event.name not in regions]
    return found if cuda else [event for event in found if not event.cpu_children]


def largest(found: list[Any], steps: int, number: int = 5) -> list[dict[str, Any]]:
    """The kernels that take most time in all, per step."""
    times: dict[str, list[float]] = defaultdict(list)
    for kernel in found:
        times[kernel.name].append(kernel.time_range.elapsed_us() / 1e3)
    totals, busy = {name: sum(one) for name, one in times.items()}, sum(map(sum, times.values()))
    names = sorted(totals, key=lambda name: -totals[name])[:number]
    return [
        {
            "name": name,
            "ms": totals[name] / steps,
            "share": totals[name] / busy,
            "times": len(times[name]) / steps,
        }
        for name in names
    ]


def gaps(found: list[Any]) -> dict[str, float]:
    """Time between the first and the last kernel in which none ran."""
    spans = sorted((kernel.time_range.start, kernel.time_range.end) for kernel in found)
    idle, longest, reached = 0.0, 0.0, spans[0][1]
    for start, end in spans[1:]:
        gap = max(0.0, start - reached)
        idle, longest, reached = idle + gap, max(longest, gap), max(reached, end)
    whole = reached - spans[0][0]
    return {"idle_ms": idle / 1e3, "idle_share": idle / whole if whole else 0.0, "longest_ms": longest / 1e3}


def waits(events: list[Any]) -> list[str]:
    """Names of the calls inside a step in which the host waits for the device."""
    steps = [e.time_range for e in events if e.name == STEP and e.device_type == DeviceType.CPU]
    calls = [event for event in events if event.name in WAITS or event.name.startswith("Memcpy DtoH")]
    return [e.name for e in calls if any(one.start <= e.time_range.start < one.end for one in steps)]


def summary(events: list[Any], cuda: bool, steps: int) -> dict[str, Any]:
    """Kernels, gaps and waits, on average of the steps."""
    found = kernels(events, cuda)
    busy = sum(kernel.time_range.elapsed_us() for kernel in found) / 1e3
    counts = {"launches": len(found) / steps, "busy_ms": busy / steps}
    return {"kernels": largest(found, steps), **counts, "gaps": gaps(found), "waits": waits(events)}


def summary_table(title: str, found: dict[str, Any]) -> Table:
    """The largest kernels, and below them gaps and waits."""
    table = new_table(title, "kernel", "ms a step", "share", "times")
    for one in found["kernels"]:
        table.add_row(one["name"][:60], f"{one['ms']:.2f}", f"{one['share']:.1%}", f"{one['times']:.0f}")
    table.add_row("all", f"{found['busy_ms']:.2f}", "", f"{found['launches']:.0f}")
    table.add_row("idle between kernels, of the time", "", f"{found['gaps']['idle_share']:.1%}", "")
    table.add_row("waits inside steps", "", "", str(len(found["waits"])))
    return table


def measure(options: argparse.Namespace, budget: Budget) -> tuple[list[Table], dict[str, Any]]:
    """Eager and compiled steps."""
    device, found, tables = torch.device(options.device), dict[str, Any](), list[Table]()
    torch.set_float32_matmul_precision("high")
    for name, seconds in {"eager": 0.0, "compiled": COMPILING_SECONDS}.items():
        compiled = name == "compiled"
        if budget.allows(name, seconds, skip=compiled and options.eager_only):
            events = profiled(options.size, options.batch_size, options.steps, device, compiled)
            found[name] = summary(events, device.type == "cuda", options.steps)
            title = f"{options.size}, {options.batch_size} sequences, {name}"
            tables.append(summary_table(title, found[name]))
    return tables, {**found, "passed": not any(one["waits"] for one in found.values())}


main = partial(run, measure, __doc__, "elf-b", "cuda", minutes=2, batch_size=32, steps=3, eager_only=False)

if __name__ == "__main__":
    main()
