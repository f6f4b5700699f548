"""Several ways to do the same, timed in turn in one process: ratios stand, whatever else the machine does."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.sizes import SIZES
from elf_lightning.cli.options import positive

Way = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """A median, and what it lies between."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Rounds:
    """Wall times of each way, by name, one for each round."""

    seconds: dict[str, list[float]]

    def time(self, way: str) -> Spread:
        """Seconds that a way takes."""
        return Spread.of(self.seconds[way])

    def milliseconds(self, way: str) -> Spread:
        """The same in milliseconds."""
        return Spread.of([1e3 * one for one in self.seconds[way]])

    def ratio(self, way: str, baseline: str) -> Spread:
        """How many times as fast as `baseline` a way is, from the ratio within each round."""
        pairs = zip(self.seconds[baseline], self.seconds[way], strict=True)
        return Spread.of([slow / fast for slow, fast in pairs])

    def record(self, baseline: str) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return {
            way: {
                "seconds": vars(self.time(way)),
                f"times_{baseline}": vars(self.ratio(way, baseline)),
                "rounds": self.seconds[way],
            }
            for way in self.seconds
        }


def alternate(
    ways: Mapping[str, Way], rounds: int, device: torch.device | str = "cpu", warmup: int = 1
) -> Rounds:
    """Times all ways in turn, `rounds` times, back and forth, so that none always follows the same one.

    Args:
        ways: what to time, by name.
        rounds: times that each is measured.
        device: waited for before and after each.
        warmup: rounds that do not count, before the others.
    """
    for way in list(ways.values()) * warmup:
        way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in sorted(ways, key=list(ways).index, reverse=number % 2 == 1):
            seconds[name].append(timed(ways[name], device))
    return Rounds(seconds)


def timed(way: Way, device: torch.device | str = "cpu") -> float:
    """Wall time in seconds, until the device has finished."""
    wait: Way = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    wait()
    start = perf_counter()
    way()
    wait()
    return perf_counter() - start


def rounds_table(
    title: str, rounds: Rounds, baseline: str, flops: Mapping[str, float] | None = None, peak: float = 0.0
) -> Table:
    """One line for each way: its median time, and how many times as fast as `baseline` it is.

    Args:
        title: over the table.
        rounds: what was measured.
        baseline: a way.
        flops: of each way, if they are known.
        peak: FLOPs a second that they are held against.
    """
    table = Table("", title=title)
    for heading in ("ms", f"times {baseline}", *(() if flops is None else ("GFLOPs", "of the peak"))):
        table.add_column(heading, justify="right")
    for way in rounds.seconds:
        median = rounds.time(way).median
        row = [way, f"{1e3 * median:.3f}", str(rounds.ratio(way, baseline))]
        if flops is not None:
            row += [f"{flops[way] / 1e9:,.1f}", f"{flops[way] / median / peak:.1%}"]
        table.add_row(*row)
    return table


def environment(device: torch.device | str = "cpu") -> dict[str, Any]:
    """What a measurement depends on besides the code."""
    device = torch.device(device)
    cuda = device.type == "cuda"
    return {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if cuda else str(device),
        "threads": torch.get_num_threads(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def arguments(description: str | None, size: str = "quickstart", rounds: int = 7) -> argparse.ArgumentParser:
    """A parser of what every benchmark understands: size, device, rounds, JSON file."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default=size)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    parser.add_argument("--rounds", type=positive, default=rounds, help="times that each way is measured")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    return parser


def report(tables: Sequence[Table | str], results: Mapping[str, Any], options: argparse.Namespace) -> None:
    """Prints the tables; writes the results, and what they depend on, to the file asked for."""
    console = Console()
    where = environment(options.device)
    for table in tables:
        console.print(table)
    console.print(", ".join(f"{name} {value}" for name, value in where.items()))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({**where, **results}, indent=2) + "\n")
