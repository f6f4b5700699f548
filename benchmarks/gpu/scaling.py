"""Training speed on 1, 2, 4, ... GPUs of one host, and what the exchange of gradients costs.

    PYTHONPATH=src:.cache/gpu/site python -m benchmarks.gpu.scaling --gpus 8 --json scaling.json

Each number of GPUs runs under torchrun (`benchmarks.gpu.scaling_rank` is one process of it), with the fixed
rows a GPU and with the paper's global batch, accumulated; NCCL's NVLink multicast is off. Efficiency is the
speed against that many times one GPU's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.gpu.budget import Budget, gpu_arguments
from benchmarks.rounds import report

ENVIRONMENT = {"NCCL_NVLS_ENABLE": "0", "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1", "OMP_NUM_THREADS": "1"}
STARTING_SECONDS = 60.0
"""A number of GPUs is not begun with less time left."""


def numbers(gpus: int) -> list[int]:
    """1, 2, 4, ... up to `gpus`, which is always the last."""
    powers = [2**exponent for exponent in range(gpus.bit_length()) if 2**exponent < gpus]
    return [*powers, gpus]


def torchrun(processes: int, module: str, *words: str) -> list[str]:
    """The command that runs a module in so many processes of this host."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*launcher, f"--nproc-per-node={processes}", "-m", module, *words]


def measured(gpus: int, options: argparse.Namespace, seconds: float) -> list[dict[str, Any]]:
    """All cases on so many GPUs; none where the processes failed or overran their time."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cases.json"
        words = {
            "device": options.device, "size": options.size, "json": file, "seconds": int(seconds),
            "rows": options.rows, "global-rows": options.global_rows, "rounds": options.rounds,
        }  # fmt: skip
        given = [f"--{name}={value}" for name, value in words.items()]
        given += ["--compile"] if options.compile else []
        command = torchrun(gpus, "benchmarks.gpu.scaling_rank", *given)
        try:
            subprocess.run(command, env=os.environ | ENVIRONMENT, timeout=seconds + 60, check=True)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            print(f"{gpus} GPUs: {error}", file=sys.stderr)
        return list(json.loads(file.read_text())) if file.is_file() else []


def with_efficiency(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cases with their speed against that many times one GPU's in the same case."""
    alone = {case["case"]: case["tokens_per_second"] for case in cases if case["gpus"] == 1}
    for case in cases:
        single = alone.get(case["case"])
        case["efficiency"] = single and case["tokens_per_second"] / (case["gpus"] * single)
    return cases


def table_of(cases: list[dict[str, Any]]) -> Table:
    """One line for each case and number of GPUs."""
    table = Table("case", title="Training")
    columns = (
        "GPUs",
        "accumulated",
        "tokens/s",
        "efficiency",
        "step, ms",
        "exchange not hidden, ms",
        "Muon, ms",
    )
    for heading in columns:
        table.add_column(heading, justify="right")
    for case in sorted(cases, key=lambda case: (case["case"], case["gpus"])):
        efficiency = case["efficiency"]
        milliseconds = (case[f"{part}_seconds"] for part in ("step", "exposed", "optimizer"))
        table.add_row(
            case["case"],
            str(case["gpus"]),
            str(case["accumulated"]),
            f"{case['tokens_per_second']:,.0f}",
            "" if efficiency is None else f"{efficiency:.1%}",
            *(f"{1e3 * seconds:.1f}" for seconds in milliseconds),
        )
    return table


def main() -> None:
    """Measure one number of GPUs after the other, and report."""
    parser = gpu_arguments(__doc__, size="elf-b", minutes=8)
    parser.add_argument("--gpus", type=int, required=True, help="largest number of processes")
    parser.add_argument("--rows", type=int, default=64, help="a GPU and micro-batch")
    parser.add_argument("--global-rows", type=int, default=512, help="of a step with accumulation")
    parser.add_argument("--compile", action="store_true", help="train through torch.compile")
    options = parser.parse_args()
    budget = Budget(options.minutes)
    cases: list[dict[str, Any]] = []
    planned = numbers(options.gpus)
    for place, gpus in enumerate(planned):
        share = budget.seconds_left / (len(planned) - place)
        if budget.allows(f"{gpus} GPUs", STARTING_SECONDS):
            found = measured(gpus, options, share - STARTING_SECONDS / 2)
            cases += found
            if not found:
                budget.left_out.append(f"{gpus} GPUs: failed, see above")
    results = {"size": options.size, "cases": with_efficiency(cases), "left_out": budget.left_out}
    report([table_of(cases), budget.told()], results, options)


if __name__ == "__main__":
    main()
