"""Training speed and memory on one GPU: tokens/s, MFU, peak memory, and a step by its parts.

    PYTHONPATH=src:.cache/gpu/site python -m benchmarks.gpu.train --json train.json
    PYTHONPATH=src:.cache/gpu/site python -m benchmarks.gpu.train --table more --minutes 9 --json more.json

Every step begins with token ids, which a frozen random encoder of T5-small's size embeds. MFU is the work of
the network (`network.flops`; neither encoder nor recomputation counts) over the device's bfloat16 peak. The
table `main` has ours and the baseline, `more` other precisions, batch sizes and networks.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.table import Table

from benchmarks.batches import RandomBatches, encoded, random_encoder
from benchmarks.measure import Budget, measured_peak, new_table, run, timed
from benchmarks.sizes import SIZES
from benchmarks.train_step import our_step_flops
from benchmarks.training import BaselineTraining, Training, mixed_precision, timed_parts
from elf_lightning.encoders import PretrainedEncoder
from elf_lightning.network.flops import device_peak

COMPILING_SECONDS, EAGER_SECONDS = 45.0, 8.0
"""What a case takes, about."""
WARMUP_STEPS = 4
"""The numbers of sequences in each mode differ by step: compiled code settles after a few."""


@dataclass(frozen=True)
class Case:
    """One configuration to train; the `matmul` precision `high` is TF32, `highest` is not."""

    size: str
    batch_size: int
    compiled: bool = True
    checkpointing: bool = False
    matmul: str = "high"
    baseline: bool = False

    @property
    def name(self) -> str:
        """As in tables."""
        how = ["baseline"] * self.baseline + ["compiled" if self.compiled else "eager"]
        how += ["checkpointing"] * self.checkpointing + ["no TF32"] * (self.matmul == "highest")
        return f"{self.size}, {self.batch_size} sequences, {', '.join(how)}"

    @property
    def graphs(self) -> Case:
        """Equal for cases that share compiled graphs, as different batch sizes do."""
        return replace(self, batch_size=0)


def cases(table: str, size: str, batch_size: int) -> Iterator[Case]:
    """The cases of a table, the most important first."""
    if table == "main":
        yield Case(size, batch_size)
        yield Case(size, batch_size, compiled=False, baseline=True)
        yield Case(size, batch_size, compiled=False)
        yield Case(size, batch_size, baseline=True)
        return
    yield Case(size, batch_size, compiled=False, matmul="highest")
    yield Case(size, batch_size, compiled=False, checkpointing=True)
    for factor in (0.25, 0.5, 2, 4, 8):
        yield Case(size, int(batch_size * factor))
    for larger in ("elf-m", "elf-l") if size == "elf-b" else ():
        yield Case(larger, SIZES[larger].batch_size)
        yield Case(larger, SIZES[larger].batch_size, compiled=False, checkpointing=True)
    yield Case(size, 4 * batch_size, checkpointing=True)


def measured(case: Case, encoder: PretrainedEncoder, device: torch.device, rounds: int) -> dict[str, Any]:
    """Speed, MFU and memory of one case."""
    torch.set_float32_matmul_precision(case.matmul)
    cuda, size = device.type == "cuda", replace(SIZES[case.size], batch_size=case.batch_size)
    size = replace(size, config=replace(size.config, gradient_checkpointing=case.checkpointing))
    kind = BaselineTraining if case.baseline else Training
    training = kind(size.network(device), size.objective, mixed=cuda)
    tokens = RandomBatches(size, device)(size.batch_size)
    if case.compiled:
        (training.loss if case.baseline else training.network).compile()

    def step() -> None:
        with mixed_precision(device, cuda):
            batch = encoded(encoder, tokens)
        training(batch)

    for _ in range(WARMUP_STEPS):
        step()
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    seconds = [timed(step, device) for _ in range(rounds)]
    memory = torch.cuda.max_memory_allocated(device) if cuda else None
    parts: dict[str, float] = {}
    if not (case.checkpointing or case.baseline):
        times = timed_parts(training, tokens, encoder, rounds)
        parts = {name: times.median(name) for name in times.seconds}
    speed, peak, flops = tokens.input_ids.numel() / median(seconds), device_peak(device), our_step_flops(size)
    mfu = None if peak is None else flops / median(seconds) / peak
    measured = {"case": case.name, "step_seconds": median(seconds), "all_steps_seconds": seconds, "mfu": mfu}
    more = {"tokens_per_second": speed, "flops": flops, "peak_bytes": memory, "parts_seconds": parts}
    return {**vars(case), **measured, **more}


def all_measured(
    options: argparse.Namespace, device: torch.device, budget: Budget
) -> Iterator[dict[str, Any]]:
    """The results of each case that there is time and memory for; the others are left out."""
    first = Case(options.size, options.batch_size or SIZES[options.size].batch_size)
    out_of_memory, graphs = torch.inf, None
    with TemporaryDirectory() as folder:
        encoder = random_encoder(SIZES[options.size], folder, device)
    for case in cases(options.table, first.size, first.batch_size):
        compiles, grows = case.compiled and case.graphs != graphs, case.graphs == first.graphs
        seconds = COMPILING_SECONDS if compiles else EAGER_SECONDS
        if grows and case.batch_size >= out_of_memory:
            budget.left_out.append(f"{case.name}: no memory")
            continue
        if not budget.allows(case.name, seconds, skip=options.eager_only and case.compiled):
            continue
        if compiles:
            torch.compiler.reset()
            graphs = case.graphs
        try:
            yield measured(case, encoder, device, options.rounds)
        except RuntimeError as error:  # out of memory, or of the compiler: the other cases can still run
            budget.left_out.append(f"{case.name}: {str(error).splitlines()[0]}")
            if grows and isinstance(error, torch.cuda.OutOfMemoryError):
                out_of_memory = case.batch_size
        gc.collect()
        torch.cuda.empty_cache()  # does nothing without a GPU


def speed_table(found: list[dict[str, Any]]) -> Table:
    """One line for each case; adds its speed over that of each baseline with as many sequences."""
    table = new_table("Training", "case", "tokens/s", "ms", "MFU", "times baseline", "compiled", "peak GiB")
    forms = (",.0f", ".1f", ".1%", ".2f", ".2f", ".1f")
    baselines = {
        (one["size"], one["batch_size"], one["compiled"]): one["tokens_per_second"]
        for one in found
        if one["baseline"]
    }
    for one in found:
        for key, compiled in (("times_baseline", False), ("times_baseline_compiled", True)):
            speed = baselines.get((one["size"], one["batch_size"], compiled))
            one[key] = speed and one["tokens_per_second"] / speed
        values = (
            one["tokens_per_second"], 1e3 * one["step_seconds"], one["mfu"], one["times_baseline"],
            one["times_baseline_compiled"], one["peak_bytes"] and one["peak_bytes"] / 2**30,
        )  # fmt: skip
        shown = (
            "" if value is None else format(value, form) for value, form in zip(values, forms, strict=True)
        )
        table.add_row(one["case"], *shown)
    return table


def parts_table(found: list[dict[str, Any]]) -> Table:
    """The parts of the first two cases that have them, in milliseconds."""
    shown = [line for line in found if line["parts_seconds"]][:2]
    table = new_table("A step by its parts", "part, ms", *(line["case"] for line in shown))
    for part in shown[0]["parts_seconds"] if shown else ():
        table.add_row(part, *(f"{1e3 * line['parts_seconds'][part]:.2f}" for line in shown))
    return table


def measure(options: argparse.Namespace, budget: Budget) -> tuple[list[object], dict[str, Any]]:
    """One case after the other."""
    device = torch.device(options.device)
    # As the steps: some CPUs take minutes for such a product in bfloat16.
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    peak, found = measured_peak(device, dtype), list(all_measured(options, device, budget))
    product = f"a large product in {dtype}: {peak / 1e12:.2f} TFLOP/s"
    return [speed_table(found), parts_table(found), product], {"measured_peak_flops": peak, "cases": found}


TABLE = ("main", "more")
main = partial(run, measure, __doc__, "elf-b", "cuda", 5, 7, table=TABLE, batch_size=int, eager_only=False)

if __name__ == "__main__":
    main()
