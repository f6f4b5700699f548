"""One process of `benchmarks.gpu.scaling`, under torchrun."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import mean, median
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.gpu.budget import Budget
from benchmarks.gpu.steps import Average, MadeUpRows, Training
from benchmarks.rounds import timed
from benchmarks.sizes import SIZES
from elf_lightning.objectives import ELFObjective
from elf_lightning.optim import MuonSettings

TIMEOUT = timedelta(minutes=2)
"""How long a rank waits for the others before it gives up."""
WARMUP_STEPS = 3


@dataclass(frozen=True)
class Case:
    """One way to train.

    Attributes:
        accumulate: reach the global batch by accumulation, in place of one micro-batch a step.
        sharded: share Muon's matrices among the ranks.
        mixing: of rows or of steps.
    """

    accumulate: bool
    sharded: bool = False
    mixing: Literal["rows", "steps"] = "rows"

    @property
    def name(self) -> str:
        """As tables have it."""
        batch = "global batch" if self.accumulate else "fixed rows"
        return f"{batch}, {self.mixing} mixed, Muon {'sharded' if self.sharded else 'replicated'}"


CASES = (
    Case(accumulate=False),
    Case(accumulate=True),
    Case(accumulate=False, sharded=True),
    Case(accumulate=False, mixing="steps"),
    Case(accumulate=True, sharded=True),
    Case(accumulate=True, mixing="steps"),
)
"""The most telling first, for when the time is short."""


def distributed(device: torch.device) -> Callable[[nn.Module], nn.Module]:
    """DDP as the product's `ddp` strategy sets it."""
    return lambda module: DistributedDataParallel(
        module,
        device_ids=[device.index] if device.type == "cuda" else None,
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
    )


def measure(case: Case, options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Times of a step and of its parts, on this rank."""
    ranks, rank, size = dist.get_world_size(), dist.get_rank(), SIZES[options.size]
    accumulated = max(1, options.global_rows // (options.rows * ranks)) if case.accumulate else 1
    network = size.network(device)
    if options.compile:
        network.compile()
    training = Training(
        network, ELFObjective(mixing=case.mixing), MuonSettings(sharded=case.sharded),
        rows=options.global_rows, mixed=device.type == "cuda", rank=rank, wrap=distributed(device),
    )  # fmt: skip
    average, rows = Average(network, 0.9999), MadeUpRows(size, device)
    batches = [rows(options.rows, rank * accumulated + number) for number in range(accumulated)]

    def step() -> None:
        training(*batches)
        average.update()

    def gradient(synchronized: bool) -> None:
        training.micro_batches = 0  # the same draws in both ways
        training.gradient(batches[0], synchronized=synchronized)

    for _ in range(WARMUP_STEPS):
        step()
    steps = [timed(step, device) for _ in range(options.rounds)]
    exchanged, alone, updates = [], [], []
    for _ in range(options.rounds):
        alone.append(timed(lambda: gradient(False), device))
        exchanged.append(timed(lambda: gradient(True), device))
        updates.append(timed(training.optimizer.step, device))
    seconds = mean(steps)  # with whole steps mixed, some take longer than others
    return {
        "case": case.name,
        "gpus": ranks,
        "accumulated": accumulated,
        "step_seconds": seconds,
        "tokens_per_second": options.rows * accumulated * ranks * size.max_length / seconds,
        "exposed_seconds": median(exchanged) - median(alone),
        "optimizer_seconds": median(updates),
        "all_steps_seconds": steps,
    }


def slowest_allows(budget: Budget, seconds: float, device: torch.device) -> bool:
    """Whether all ranks have so many seconds left: they must agree, or wait for each other for ever."""
    left = torch.tensor(budget.seconds_left, device=device)
    dist.all_reduce(left, dist.ReduceOp.MIN)
    return left.item() > seconds


def main() -> None:
    """Measure the cases that there is time for; rank 0 writes them after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", required=True)
    parser.add_argument("--size", required=True)
    parser.add_argument("--json", type=Path, required=True)
    for name in ("--seconds", "--rows", "--global-rows", "--rounds"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    budget, local_rank = Budget(options.seconds / 60), int(os.environ["LOCAL_RANK"])
    device = torch.device(options.device)
    if device.type == "cuda":
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    torch.set_float32_matmul_precision("high")
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    found: list[dict[str, Any]] = []
    longest = 0.0
    for case in CASES:
        if not slowest_allows(budget, 1.5 * longest, device):
            break
        before = budget.seconds_left
        found.append(measure(case, options, device))
        longest = max(longest, before - budget.seconds_left)
        if dist.get_rank() == 0:
            options.json.write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
