"""Training speed of `elf fit` on 1, 2, 4, ... GPUs, with its loader, Lightning, logs and average.

    PYTHONPATH=src:.cache/gpu/site python -m benchmarks.gpu.fit --gpus 2 --size books --json fit.json

Random tokens, and an encoder with random weights. Each GPU has `--batch-size` sequences, by default those
of the size; `--no-graphs` trains without CUDA graphs. The rates are those that the command logs, without the
first interval, which holds its start and the compiler. Needs what the commands need (README.md). Ends with
status 1 where a run is missing.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.table import Table

from benchmarks.batches import random_encoder
from benchmarks.gpu import COMMANDS_NEED, require
from benchmarks.gpu.scaling import ENVIRONMENT, powers, with_efficiency
from benchmarks.measure import Budget, new_table, run
from benchmarks.sizes import SIZES, Size

INTERVAL = 50
"""Optimizer steps between two logged rates."""
STARTING_SECONDS = 60.0
"""For imports and the compiler; a number of GPUs is not begun with less time left."""
RATES = {"tokens_per_second": "train/tokens_per_second", "mfu": "train/mfu"}


def configuration(
    size: Size, folder: Path, gpus: int, cuda: bool, steps: int, graphs: bool
) -> dict[str, Any]:
    """The configuration of a run on the corpus and the encoder in `folder`."""
    trainer = {
        "accelerator": "gpu" if cuda else "cpu", "devices": gpus,
        "precision": "bf16-mixed" if cuda else "32-true", "max_steps": steps, "limit_val_batches": 0,
        "log_every_n_steps": INTERVAL, "default_root_dir": f"{folder}/{gpus}", "callbacks": ["EMA"],
        "gradient_clip_val": 1.0, "enable_checkpointing": False, "enable_progress_bar": False,
    }  # fmt: skip
    data = {
        "source": {"class_path": "SavedDataset", "init_args": {"path": f"{folder}/rows"}},
        "encoder": {"class_path": "PretrainedEncoder", "init_args": {"name_or_path": f"{folder}/model"}},
        "max_length": size.max_length, "batch_size": size.batch_size, "cache_dir": f"{folder}/cache",
        "latent_mean": 0.0, "latent_std": 1.0, "num_workers": 8 if cuda else 0,
    }  # fmt: skip
    model = {"network": asdict(size.config), "objective": asdict(size.objective)}
    model |= {"compile": cuda, "cuda_graphs": graphs}
    return {"trainer": trainer, "data": data, "model": model, "float32_matmul_precision": "high"}


def logged_rates(folder: Path) -> dict[str, float]:
    """Medians of the rates in a run's folder, if any; `mfu` only where the device's peak is known."""
    rows: list[dict[str, str]] = []
    for file in folder.rglob("metrics.csv"):
        with file.open() as lines:
            rows += [row for row in csv.DictReader(lines) if row.get(RATES["tokens_per_second"])][1:]
    return {
        name: median(float(row[column]) for row in rows)
        for name, column in RATES.items()
        if rows and column in rows[0]
    }


def measured(size: Size, folder: Path, gpus: int, settings: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The rates of `elf fit` on so many GPUs, which the command itself starts; or the `reason` for none."""
    file, log = folder / "config.json", folder / f"{gpus}.log"
    file.write_text(json.dumps(settings))
    words, environment = ["-m", "elf_lightning", "fit", "--config", str(file)], os.environ | ENVIRONMENT
    with log.open("w") as output:
        command = subprocess.Popen(
            [sys.executable, *words], env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            status = command.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(command.pid, signal.SIGKILL)  # the ranks that the command has started, too
            command.wait()
            status = None
    rates = logged_rates(folder / str(gpus)) if status == 0 else {}
    if not rates:
        print(log.read_text()[-5000:])
        ended = f"stopped after {seconds:.0f} s" if status is None else f"ended with status {status}"
        return {"reason": f"{ended}, without rates; see above"}
    tokens = size.batch_size * gpus * size.max_length
    step = tokens / rates["tokens_per_second"]
    return {"case": "elf fit", "gpus": gpus, "step_seconds": step, **rates}


def speed_table(found: list[dict[str, Any]]) -> Table:
    """One line for each number of GPUs."""
    table = new_table("elf fit", "GPUs", "tokens/s", "efficiency", "step, ms", "MFU")
    for one in found:
        efficiency = "" if one["efficiency"] is None else f"{one['efficiency']:.1%}"
        mfu = f"{one['mfu']:.1%}" if "mfu" in one else ""
        rate, step = f"{one['tokens_per_second']:,.0f}", f"{1e3 * one['step_seconds']:.1f}"
        table.add_row(str(one["gpus"]), rate, efficiency, step, mfu)
    return table


def measure(options: argparse.Namespace, budget: Budget) -> tuple[list[Table], dict[str, Any]]:
    """One number of GPUs after the other."""
    from benchmarks.loader import save_corpus

    size, planned = SIZES[options.size], powers(options.gpus)
    cuda = torch.device(options.device).type == "cuda"
    size = replace(size, batch_size=options.batch_size or size.batch_size)
    steps, found = INTERVAL * (1 + options.rounds), list[dict[str, Any]]()
    with TemporaryDirectory() as name:
        folder = Path(name)
        save_corpus(folder, size, int(1.1 * steps * size.batch_size * options.gpus))  # less than an epoch
        random_encoder(size, str(folder / "model"), torch.device("cpu"))
        for place, gpus in enumerate(planned):
            if not budget.allows(f"{gpus} GPUs", STARTING_SECONDS):
                continue
            seconds = budget.seconds_left / (len(planned) - place)
            settings = configuration(size, folder, gpus, cuda, steps, graphs=not options.no_graphs)
            one = measured(size, folder, gpus, settings, seconds)
            if "reason" in one:
                budget.left_out.append(f"{gpus} GPUs: {one['reason']}")
            else:
                found.append(one)
    return [speed_table(with_efficiency(found))], {"runs": found, "passed": not budget.left_out}


def main() -> None:
    """Measure, print and write."""
    require(COMMANDS_NEED)
    run(measure, __doc__, "elf-b", "cuda", 4, 8, gpus=2, batch_size=0, no_graphs=False)


if __name__ == "__main__":
    main()
