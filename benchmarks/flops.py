"""FLOPs by formula of all sizes: what training and sampling can gain by not computing what nobody needs.

    python -m benchmarks.flops --json flops.json

Nothing is run, and the device makes no difference.
"""

from __future__ import annotations

from typing import Any

from rich.table import Table

from benchmarks.plain import plain_flops
from benchmarks.plain_sampling import plain_flops as plain_sampling_flops
from benchmarks.rounds import arguments, report
from benchmarks.sizes import SIZES
from elf_lightning.network.flops import sampling_flops, training_step_flops

STEPS = 16
"""Of the solver, for sampling."""


def counted(name: str) -> dict[str, float]:
    """FLOPs of a training step and of sampling at one size, in the product's way and in plain ones."""
    size = SIZES[name]
    network, rows, length = size.network(), size.batch_size, size.max_length
    found = {
        "training": training_step_flops(network, rows, length, *size.objective.mean_counts(rows)),
        "training, plain": plain_flops(network, rows, length),
    }
    for kind, passes in (("sampling", 1), ("sampling with CFG", 2)):
        found[kind] = sampling_flops(network, rows, length, STEPS, passes)
        for way, every_head in (("plain", True), ("one head", False)):
            plain = plain_sampling_flops(network, rows, length, STEPS, passes, every_head)
            found[f"{kind}, {way}"] = plain
    return found


def ratios(found: dict[str, float]) -> dict[str, float]:
    """How many times as many FLOPs each plain way has."""
    return {name: flops / found[name.split(",")[0]] for name, flops in found.items() if "," in name}


def main() -> None:
    """Counts, prints and writes what the command line asks for."""
    options = arguments(__doc__).parse_args()
    table = Table("", title=f"FLOPs of a batch by formula; sampling of {STEPS} steps")
    for heading in ("GFLOPs", "of plain", "ratio"):
        table.add_column(heading, justify="right")
    record: dict[str, Any] = {}
    for name in SIZES:
        found = counted(name)
        record[name] = {"flops": found, "ratios": ratios(found)}
        for way, ratio in ratios(found).items():
            numbers = (f"{found[way.split(',')[0]] / 1e9:,.1f}", f"{found[way] / 1e9:,.1f}", f"{ratio:.2f}")
            table.add_row(f"{name}, {way}", *numbers)
    report([table], {"steps": STEPS, "sizes": record}, options)


if __name__ == "__main__":
    main()
