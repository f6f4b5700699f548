"""Training speed on 1, 2, 4, ... GPUs of one host, from token ids, and the cost of exchanging gradients.

    PYTHONPATH=src:.cache/gpu/site python -m benchmarks.gpu.scaling --gpus 8 --json scaling.json

Each number of GPUs runs under torchrun, with a fixed batch per GPU and with the paper's global batch,
accumulated; NCCL's NVLink multicast is off. Efficiency is the speed over that many times one GPU's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from statistics import mean, median
from typing import Any, Literal

import torch
import torch.distributed as dist
from rich.table import Table
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.batches import RandomBatches, encoded, random_encoder
from benchmarks.measure import Budget, new_table, run, timed
from benchmarks.sizes import SIZES
from benchmarks.training import Training, mixed_precision
from elf_lightning.encoders import PretrainedEncoder

ENVIRONMENT = {"NCCL_NVLS_ENABLE": "0", "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1", "OMP_NUM_THREADS": "1"}
STARTING_SECONDS = 30.0
"""For the processes to start and end; a number of GPUs is not begun with less time left."""
TIMEOUT = timedelta(minutes=2)
"""How long a rank waits for the others before it gives up."""
WARMUP_STEPS = 3


@dataclass(frozen=True)
class Case:
    """Whether to accumulate the global batch, to divide Muon's matrices among ranks, and how modes mix."""

    accumulate: bool
    sharded: bool = False
    mixing: Literal["rows", "steps"] = "rows"

    @property
    def name(self) -> str:
        """As in tables."""
        batch, muon = "global" if self.accumulate else "fixed", "sharded" if self.sharded else "replicated"
        return f"{batch} batch, {'sequences' if self.mixing == 'rows' else 'steps'} mixed, Muon {muon}"


CASES = [Case(False), Case(True), Case(False, sharded=True), Case(False, mixing="steps")]
CASES += [Case(True, sharded=True), Case(True, mixing="steps")]
"""The most important first."""


def powers(gpus: int) -> list[int]:
    """1, 2, 4, ... and `gpus` itself."""
    return [2**n for n in range(gpus.bit_length()) if 2**n < gpus] + [gpus]


def torchrun(processes: int, module: str, *words: str) -> list[str]:
    """The command that runs a module in so many processes on this host."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*launcher, f"--nproc-per-node={processes}", "-m", module, *words]


def distributed(module: nn.Module) -> nn.Module:
    """DDP with the settings of our `ddp` strategy."""
    return DistributedDataParallel(module, broadcast_buffers=False, gradient_as_bucket_view=True)


def measure(
    case: Case, encoder: PretrainedEncoder, options: argparse.Namespace, device: torch.device
) -> dict[str, Any]:
    """Times of a step and of its parts, on this rank."""
    ranks, rank, size = dist.get_world_size(), dist.get_rank(), SIZES[options.size]
    accumulated = max(1, options.global_batch // (options.batch_size * ranks)) if case.accumulate else 1
    network = size.network(device)
    if options.compile:
        network.compile()
    objective = replace(size.objective, mixing=case.mixing)
    settings = {"mixed": device.type == "cuda", "sharded": case.sharded, "rank": rank}
    training = Training(network, objective, **settings, wrap=distributed)
    random = RandomBatches(size, device)
    batches = [random(options.batch_size, rank * accumulated + number) for number in range(accumulated)]

    def step() -> None:
        with mixed_precision(device, training.mixed):
            latents = [encoded(encoder, batch) for batch in batches]
        training(*latents)

    def gradient(synchronized: bool) -> None:
        training.micro_batches = 0  # the same draws both times
        training.gradient(batches[0], synchronized=synchronized)

    for _ in range(WARMUP_STEPS):
        step()
    steps = [timed(step, device) for _ in range(options.rounds)]
    timings = [
        [timed(part, device) for part in (lambda: gradient(False), lambda: gradient(True), training.update)]
        for _ in range(options.rounds)
    ]
    alone, exchanged, updates = map(median, zip(*timings, strict=True))
    seconds = mean(steps)  # where whole steps have one mode, some take longer than others
    speed = options.batch_size * accumulated * ranks * size.max_length / seconds
    parts = {"exposed_seconds": exchanged - alone, "optimizer_seconds": updates, "all_steps_seconds": steps}
    counts = {"case": case.name, "gpus": ranks, "accumulated": accumulated}
    return {**counts, "step_seconds": seconds, "tokens_per_second": speed, **parts}


def on_this_rank(options: argparse.Namespace) -> None:
    """Measure the cases that there is time for; rank 0 writes the results after each."""
    budget, device = Budget(options.minutes), torch.device(options.device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    torch.set_float32_matmul_precision("high")
    with tempfile.TemporaryDirectory() as folder:  # before the ranks know each other: all of them save
        encoder = random_encoder(SIZES[options.size], folder, device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    found: list[dict[str, Any]] = []
    needed = 0.0
    for case in CASES:
        # All ranks must agree, or they would wait for each other.
        left = torch.tensor(budget.seconds_left, device=device)
        dist.all_reduce(left, dist.ReduceOp.MIN)
        if left.item() < needed:
            break
        found.append(measure(case, encoder, options, device))
        # Without the time to compile: all cases share the graphs of the first.
        needed = 2.0 * max(sum(one["all_steps_seconds"]) for one in found)
        if dist.get_rank() == 0:
            Path(options.json).write_text(json.dumps(found))
    dist.destroy_process_group()


def measured(gpus: int, options: argparse.Namespace, seconds: float, budget: Budget) -> list[dict[str, Any]]:
    """All cases on so many GPUs; those that are missing are recorded as left out."""
    reason = "no time"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cases.json"
        own = {"minutes": (seconds - STARTING_SECONDS) / 60, "json": file}
        command = torchrun(gpus, "benchmarks.gpu.scaling", json.dumps(vars(options) | own, default=str))
        try:
            status = subprocess.run(command, env=os.environ | ENVIRONMENT, timeout=seconds + 30, check=False)
            reason = f"ended with status {status.returncode}, see above" if status.returncode else reason
        except subprocess.TimeoutExpired:
            reason = f"stopped after {seconds + 30:.0f} s"
        found = list(json.loads(file.read_text())) if file.is_file() else []
    missing = [case.name for case in CASES if case.name not in {one["case"] for one in found}]
    budget.left_out += [f"{gpus} GPUs, {name}: {reason}" for name in missing]
    return found


def with_efficiency(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results with the speed over that many times one GPU's in the same case."""
    alone = {one["case"]: one["tokens_per_second"] for one in found if one["gpus"] == 1}
    for one in found:
        single = alone.get(one["case"])
        one["efficiency"] = single and one["tokens_per_second"] / (one["gpus"] * single)
    return found


def speed_table(found: list[dict[str, Any]]) -> Table:
    """One line for each case and number of GPUs."""
    headings = ("GPUs", "accumulated", "tokens/s", "efficiency", "step", "exchange not hidden", "Muon, ms")
    table = new_table("Training", "case", *headings)
    for one in sorted(found, key=lambda one: (one["case"], one["gpus"])):
        efficiency = "" if one["efficiency"] is None else f"{one['efficiency']:.1%}"
        milliseconds = (f"{1e3 * one[f'{part}_seconds']:.1f}" for part in ("step", "exposed", "optimizer"))
        counts = (str(one["gpus"]), str(one["accumulated"]))
        table.add_row(one["case"], *counts, f"{one['tokens_per_second']:,.0f}", efficiency, *milliseconds)
    return table


def all_measured(options: argparse.Namespace, budget: Budget) -> tuple[list[Table], dict[str, Any]]:
    """One number of GPUs after the other."""
    planned, found = powers(options.gpus), list[dict[str, Any]]()
    for place, gpus in enumerate(planned):
        seconds = budget.seconds_left / (len(planned) - place)
        if budget.allows(f"{gpus} GPUs", STARTING_SECONDS):
            found += measured(gpus, options, seconds, budget)
    return [speed_table(with_efficiency(found))], {"cases": found}


def main() -> None:
    """Measure, print and write; under torchrun, be one rank of that."""
    if "LOCAL_RANK" in os.environ:
        return on_this_rank(argparse.Namespace(**json.loads(sys.argv[1])))
    options = {"gpus": 2, "batch_size": 64, "global_batch": 512, "compile": False}
    run(all_measured, __doc__, "elf-b", "cuda", 5, 8, **options)
    return None


if __name__ == "__main__":
    main()
