"""A training step under torch's profiler: the largest kernels, gaps between launches, synchronisations.

    PYTHONPATH=src:.cache/gpu/site python -m benchmarks.gpu.profile_step --json profile.json

Nothing may wait for the device inside a step; ends with status 1 if something does. On a CPU, operators stand
in for kernels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from rich.table import Table
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import DeviceType, ProfilerActivity, profile, record_function

from benchmarks.gpu.budget import Budget, gpu_arguments
from benchmarks.gpu.steps import Average, MadeUpRows, Training
from benchmarks.rounds import report
from benchmarks.sizes import SIZES
from elf_lightning.objectives import ELFObjective
from elf_lightning.optim import MuonSettings

STEP = "training step"
WAITING = (
    "cudaDeviceSynchronize",
    "cudaStreamSynchronize",
    "cudaEventSynchronize",
    "cudaMemcpy",
    "Memcpy DtoH",
)
"""What the host waits in; `cudaMemcpyAsync` is none of it unless it brings something back."""
COMPILING_SECONDS = 60.0


@dataclass(frozen=True)
class Span:
    """Something that ran, in microseconds.

    Attributes:
        name: the kernel's or the call's.
        start: when it began.
        end: when it ended.
    """

    name: str
    start: float
    end: float

    @classmethod
    def of(cls, event: FunctionEvent) -> Span:
        """An event of the profiler."""
        return cls(event.name, event.time_range.start, event.time_range.end)


def largest(kernels: Iterable[Span], number: int = 5) -> list[tuple[str, float, int]]:
    """The kernels that took longest in all: name, milliseconds, how often."""
    milliseconds: dict[str, float] = defaultdict(float)
    times: dict[str, int] = defaultdict(int)
    for kernel in kernels:
        milliseconds[kernel.name] += (kernel.end - kernel.start) / 1e3
        times[kernel.name] += 1
    longest = sorted(milliseconds, key=lambda name: -milliseconds[name])[:number]
    return [(name, milliseconds[name], times[name]) for name in longest]


def gaps(kernels: list[Span]) -> dict[str, float]:
    """Time in which no kernel ran, between the first and the last: in all, as a share, and the longest."""
    kernels = sorted(kernels, key=lambda kernel: kernel.start)
    idle, longest, end = 0.0, 0.0, kernels[0].end
    for kernel in kernels[1:]:
        gap = max(0.0, kernel.start - end)
        idle, longest, end = idle + gap, max(longest, gap), max(end, kernel.end)
    whole = end - kernels[0].start
    return {"idle_ms": idle / 1e3, "idle_share": idle / whole if whole else 0.0, "longest_ms": longest / 1e3}


def waits(calls: Iterable[Span], steps: list[Span]) -> list[str]:
    """Names of the calls inside a step in which the host waited for the device."""
    return [
        call.name
        for call in calls
        if (call.name in WAITING or call.name.startswith("Memcpy DtoH"))
        and any(step.start <= call.start < step.end for step in steps)
    ]


def profiled(size: str, rows: int, steps: int, device: torch.device, compiled: bool) -> list[FunctionEvent]:
    """The events of a few steps, after as many to warm up."""
    network = SIZES[size].network(device)
    if compiled:
        network.compile()
    cuda = device.type == "cuda"
    training = Training(network, ELFObjective(), MuonSettings(), rows=rows, mixed=cuda)
    average, batch = Average(network, 0.9999), MadeUpRows(SIZES[size], device)(rows)

    def step() -> None:
        with record_function(STEP):
            training(batch)
            average.update()

    for _ in range(steps + 2):
        step()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities) as profiler:
        for _ in range(steps):
            step()
        if cuda:
            torch.cuda.synchronize()
    return list(profiler.events())


def summary(events: list[FunctionEvent], device: torch.device, steps: int) -> dict[str, Any]:
    """Kernels, gaps and waits, of one step on average."""
    on_host = [event for event in events if event.device_type == DeviceType.CPU]
    marks = [Span.of(event) for event in on_host if event.name == STEP]
    if device.type == "cuda":
        # The profiler shows the marked region on the device as well: no kernel, but all of them.
        found = [e for e in events if e.device_type == DeviceType.CUDA and e.name != STEP]
    else:
        found = [event for event in on_host if not event.cpu_children and event.name != STEP]
    kernels = [Span.of(event) for event in found]
    busy = sum(kernel.end - kernel.start for kernel in kernels) / 1e3
    return {
        "kernels": [
            {"name": name, "ms": ms / steps, "share": ms / busy, "times": times / steps}
            for name, ms, times in largest(kernels)
        ],
        "launches": len(kernels) / steps,
        "busy_ms": busy / steps,
        "gaps": gaps(kernels),
        "waits": waits([Span.of(event) for event in events], marks),
    }


def table_of(title: str, found: dict[str, Any]) -> Table:
    """The five largest kernels, and below them gaps and waits."""
    table = Table("kernel", title=title)
    for heading in ("ms a step", "share", "times"):
        table.add_column(heading, justify="right")
    for kernel in found["kernels"]:
        table.add_row(
            kernel["name"][:60], f"{kernel['ms']:.2f}", f"{kernel['share']:.1%}", f"{kernel['times']:.0f}"
        )
    table.add_row("all", f"{found['busy_ms']:.2f}", "", f"{found['launches']:.0f}")
    table.add_row("idle between kernels, of the time", "", f"{found['gaps']['idle_share']:.1%}", "")
    table.add_row("waits inside steps", "", "", str(len(found["waits"])))
    return table


def main() -> None:
    """Profile eager and compiled steps, and report."""
    parser = gpu_arguments(__doc__, size="elf-b", minutes=2)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--eager-only", action="store_true", help="compile nothing")
    options = parser.parse_args()
    budget, device = Budget(options.minutes), torch.device(options.device)
    torch.set_float32_matmul_precision("high")
    results: dict[str, Any] = {}
    for name in ("eager",) if options.eager_only else ("eager", "compiled"):
        if name == "eager" or budget.allows(name, COMPILING_SECONDS):
            events = profiled(options.size, options.rows, options.steps, device, name == "compiled")
            results[name] = summary(events, device, options.steps)
    tables = [
        table_of(f"{options.size}, {options.rows} rows, {name}", found) for name, found in results.items()
    ]
    report([*tables, budget.told()], {**results, "left_out": budget.left_out}, options)
    raise SystemExit(1 if any(found["waits"] for found in results.values()) else 0)


if __name__ == "__main__":
    main()
