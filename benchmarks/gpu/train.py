"""Training speed and memory on one GPU: tokens/s, MFU, peak memory, a step by its parts.

    PYTHONPATH=src:.cache/gpu/site python -m benchmarks.gpu.train --json train.json

Every step begins with token ids: a frozen encoder of T5-small's size with random weights embeds them, as the
product does. MFU is the network's work by formula (`elf_lightning.network.flops`; neither encoder nor what is
recomputed counts) over the device's peak in bfloat16 (`elf_lightning.network.peaks`). Beside it stands the
plain way of `benchmarks.plain`. The most telling cases come first; what lacks time or memory is told.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Iterator
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.table import Table

from benchmarks.batches import random_encoder
from benchmarks.gpu.budget import Budget, gpu_arguments
from benchmarks.gpu.whole_step import Case, Step, cases
from benchmarks.peak import measured_peak
from benchmarks.rounds import report, timed
from benchmarks.sizes import SIZES
from elf_lightning.encoders import PretrainedEncoder
from elf_lightning.network.peaks import device_peak

COMPILING_SECONDS = 60.0
WARMUP_STEPS = 4
"""Rows fall otherwise in each step: compiled code settles after a few."""


def measured(case: Case, encoder: PretrainedEncoder, device: torch.device, rounds: int) -> dict[str, Any]:
    """Speed, MFU and memory of one case."""
    cuda, peak = device.type == "cuda", device_peak(device)
    step = Step(case, encoder, device)
    for _ in range(WARMUP_STEPS):
        step()
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    lasted = [timed(step, device) for _ in range(rounds)]
    memory = torch.cuda.max_memory_allocated(device) if cuda else None
    seconds = median(lasted)
    return {
        **vars(case),
        "case": case.name,
        "step_seconds": seconds,
        "all_steps_seconds": lasted,
        "tokens_per_second": step.rows.input_ids.numel() / seconds,
        "flops": step.flops(),
        "mfu": None if peak is None else step.flops() / seconds / peak,
        "peak_bytes": memory,
        "parts_seconds": {} if case.checkpointing or case.plain else step.parts(rounds),
    }


def with_ratios(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cases with their speed against the plain way compiled, at the same size and rows."""
    plain = {(line["size"], line["rows"]): line for line in found if line["plain"] and line["compiled"]}
    for line in found:
        baseline = plain.get((line["size"], line["rows"]))
        line["times_plain"] = baseline and line["tokens_per_second"] / baseline["tokens_per_second"]
    return found


def speed_table(found: list[dict[str, Any]]) -> Table:
    """One line for each case."""
    table = Table("case", title="Training")
    for heading in ("tokens/s", "ms", "MFU", "times plain, compiled", "peak GiB"):
        table.add_column(heading, justify="right")
    for line in found:
        memory, mfu = line["peak_bytes"], line["mfu"]
        table.add_row(
            line["case"],
            f"{line['tokens_per_second']:,.0f}",
            f"{1e3 * line['step_seconds']:.1f}",
            "" if mfu is None else f"{mfu:.1%}",
            "" if line["times_plain"] is None else f"{line['times_plain']:.2f}",
            "" if memory is None else f"{memory / 2**30:.1f}",
        )
    return table


def parts_table(found: list[dict[str, Any]]) -> Table:
    """The parts of the first two cases, in milliseconds."""
    shown = [line for line in found if line["parts_seconds"]][:2]
    table = Table("part, ms", title="A step by its parts")
    for line in shown:
        table.add_column(line["case"], justify="right")
    for part in shown[0]["parts_seconds"] if shown else ():
        table.add_row(part, *(f"{1e3 * line['parts_seconds'][part]:.2f}" for line in shown))
    return table


def all_measured(
    options: argparse.Namespace, encoder: PretrainedEncoder, device: torch.device, budget: Budget
) -> Iterator[dict[str, Any]]:
    """What is found of each case that there is time for; what fails is noted."""
    limit = torch.inf
    for case in cases(options.size, options.rows or SIZES[options.size].batch_size):
        grown = case.size == options.size and not case.checkpointing and not case.plain
        if (options.eager_only and case.compiled) or (grown and case.rows >= limit):
            continue
        if not budget.allows(case.name, COMPILING_SECONDS if case.compiled else 5.0):
            continue
        try:
            yield measured(case, encoder, device, options.rounds)
        except RuntimeError as error:  # of memory, or of the compiler: the other cases still count
            budget.left_out.append(f"{case.name}: {str(error).splitlines()[0]}")
            if grown and isinstance(error, torch.cuda.OutOfMemoryError):
                limit = case.rows
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def main() -> None:
    """Measure one case after the other, and report."""
    parser = gpu_arguments(__doc__, size="elf-b", minutes=7)
    parser.add_argument("--rows", type=int, help="of the first case (default: the size's batch)")
    parser.add_argument("--eager-only", action="store_true", help="compile nothing")
    options = parser.parse_args()
    budget, device = Budget(options.minutes), torch.device(options.device)
    with TemporaryDirectory() as folder:
        encoder = random_encoder(SIZES[options.size], folder, device)
    most = measured_peak(device, torch.bfloat16)
    found = with_ratios(list(all_measured(options, encoder, device, budget)))
    results = {"measured_peak_flops": most, "cases": found, "left_out": budget.left_out}
    told = f"a large product in bfloat16: {most / 1e12:.1f} TFLOP/s"
    report([speed_table(found), parts_table(found), told, budget.told()], results, options)


if __name__ == "__main__":
    main()
