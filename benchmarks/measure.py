"""Time functions in turn within one process, and print and write the results.

Ratios of functions that alternate hold even on a machine that is busy with other work.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.sizes import SIZES

Function = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """The median of some values with the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        return cls(median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Rounds:
    """Wall times of several functions, by name, one for each round."""

    seconds: dict[str, list[float]]

    def median(self, name: str) -> float:
        """Median seconds of a function."""
        return median(self.seconds[name])

    def milliseconds(self, name: str) -> Spread:
        """Spread of a function's times in milliseconds."""
        return Spread.of([1e3 * one for one in self.seconds[name]])

    def ratio(self, name: str, baseline: str) -> Spread:
        """How many times as fast as `baseline` a function is, taken within each round."""
        pairs = zip(self.seconds[baseline], self.seconds[name], strict=True)
        return Spread.of([slow / fast for slow, fast in pairs])

    def record(self, baseline: str) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            name: {
                "seconds": vars(Spread.of(rounds)),
                f"times_{baseline}": vars(self.ratio(name, baseline)),
                "rounds": rounds,
            }
            for name, rounds in self.seconds.items()
        }


def alternate(
    functions: Mapping[str, Function], rounds: int, device: torch.device | str = "cpu", warmup: int = 1
) -> Rounds:
    """Time all functions in turn, back and forth, so that none always follows the same other one.

    `warmup` rounds before the others are not timed; `device` is synchronised before and after each function.
    """
    for function in list(functions.values()) * warmup:
        function()
    names = list(functions)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names[:: -1 if number % 2 else 1]:
            seconds[name].append(timed(functions[name], device))
    return Rounds(seconds)


def timed(function: Function, device: torch.device | str = "cpu") -> float:
    """Wall time in seconds until the device has finished."""
    wait: Function = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    wait()
    start = perf_counter()
    function()
    wait()
    return perf_counter() - start


class Budget:
    """A deadline, and in `left_out` what was not measured, with the reason."""

    def __init__(self, minutes: float) -> None:
        self._end = monotonic() + 60 * minutes
        self.left_out: list[str] = []

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline; negative after it."""
        return self._end - monotonic()

    def allows(self, name: str, seconds: float = 0.0, skip: bool = False) -> bool:
        """Whether something of about `seconds` fits and is not to be skipped; if not, it is left out."""
        if skip or self.seconds_left <= seconds:
            self.left_out.append(f"{name}: {'not compiled' if skip else 'no time'}")
            return False
        return True

    def __str__(self) -> str:
        return f"left out: {'; '.join(self.left_out) or 'nothing'}"


def counted_flops(function: Function) -> int:
    """FLOPs of the matrix products and of attention in one call, as torch counts them."""
    # Fused attention kernels are not counted on every device; the plain one always is.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        function()
    return int(counter.get_total_flops())


def measured_peak(device: torch.device | str, dtype: torch.dtype, side: int = 0, repeats: int = 5) -> float:
    """FLOP/s of the fastest of `repeats` products of square matrices, after one that is not timed.

    The matrices have 2048 rows on a CPU and 8192 elsewhere, if `side` is not given.
    """
    side = side or (2048 if torch.device(device).type == "cpu" else 8192)
    left, right = torch.randn(2, side, side, device=device).to(dtype)
    result = torch.empty_like(left)
    seconds = [timed(lambda: torch.mm(left, right, out=result), device) for _ in range(1 + repeats)]
    return 2 * side**3 / min(seconds[1:])


def new_table(title: str, first: str, *headings: str) -> Table:
    """A table whose first column holds names and whose others hold numbers."""
    table = Table(first, title=title)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def ratio_table(
    title: str,
    rounds: Rounds,
    baseline: str,
    flops: Mapping[str, float] | None = None,
    peak: float = 0.0,
    per: int = 1,
) -> Table:
    """Median time of each function over `per`, and how many times as fast as `baseline` it is.

    With the `flops` of each function, also the ratio they allow and their fraction of `peak`, in FLOP/s.
    """
    more = () if flops is None else ("GFLOPs", "bound of the ratio", "of the peak")
    table = new_table(title, "", "ms", f"times {baseline}", *more)
    for name in rounds.seconds:
        seconds = rounds.median(name)
        cells = [f"{1e3 * seconds / per:.3f}", str(rounds.ratio(name, baseline))]
        if flops is not None:
            bound = f"{flops[baseline] / flops[name]:.2f}"
            cells += [f"{flops[name] / 1e9:,.1f}", bound, f"{flops[name] / seconds / peak:.1%}"]
        table.add_row(name, *cells)
    return table


def run(
    measure: Callable[[argparse.Namespace, Budget], tuple[Sequence[object], dict[str, Any]]],
    description: str | None,
    size: str = "bible",
    device: str = "cpu",
    rounds: int = 7,
    minutes: float = inf,
    **options: Any,
) -> None:
    """The command line of a measurement: read the options, measure, print the tables, write the results.

    The defaults in `options` say what can be set: False is a switch, a tuple has the choices,
    a type is an option without a default. A result `passed` that is false makes the exit status 1.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default=size)
    parser.add_argument("--device", default=device, help="cpu, cuda, cuda:1, ...")
    parser.add_argument("--rounds", type=_positive, default=rounds, help=f"measurements ({rounds})")
    parser.add_argument("--minutes", type=float, default=minutes, help=f"time limit ({minutes:g})")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    for name, default in options.items():
        settings: dict[str, Any] = {"type": type(default), "default": default, "help": f"default: {default}"}
        if default is False:
            settings = {"action": "store_true"}
        elif isinstance(default, tuple):
            settings = {"choices": default, "default": default[0]}
        elif isinstance(default, type):
            settings = {"type": default}
        parser.add_argument(f"--{name.replace('_', '-')}", **settings)
    given = parser.parse_args()
    budget = Budget(given.minutes)
    tables, results = measure(given, budget)
    device, console = torch.device(given.device), Console()
    environment = {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "threads": torch.get_num_threads(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    for table in (*tables, budget):
        console.print(table if isinstance(table, Table) else str(table))
    console.print(", ".join(f"{name} {value}" for name, value in environment.items()))
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        written = vars(given) | environment | results | {"left_out": budget.left_out}
        given.json.write_text(json.dumps(written, indent=2, default=str) + "\n")
    raise SystemExit(0 if results.get("passed", True) else 1)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number
