"""Time until commands say something, beside the import of torch, which all real work waits for.

    python -m benchmarks.startup --rounds 9 --json startup.json

Each is a process of its own. Importing Lightning and its parser is a lower bound for training commands.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.measure import Budget, alternate, ratio_table, run

TORCH = "import torch"
_IMPORTS = (TORCH, "import elf_lightning", "from elf_lightning import ELF", "import lightning.pytorch.cli")
_COMMANDS = ("elf --help", "elf sample --help", "elf fit --help", "elf fit --help-all")
COMMANDS: dict[str, list[str]] = {line: [sys.executable, "-c", line] for line in _IMPORTS} | {
    line: [str(Path(sys.executable).parent / line.split()[0]), *line.split()[1:]] for line in _COMMANDS
}


def execute(command: Sequence[str]) -> None:
    """Run a command to its end.

    Raises:
        subprocess.CalledProcessError: if it fails.
    """
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def measure(options: argparse.Namespace, _: Budget) -> tuple[list[Table], dict[str, Any]]:
    """All commands in turn, after one round that fills the caches."""
    functions = {name: partial(execute, command) for name, command in COMMANDS.items()}
    rounds = alternate(functions, options.rounds)
    table = ratio_table("Start-up; above 1 is faster than importing torch", rounds, TORCH)
    return [table], {"startup": rounds.record(TORCH)}


main = partial(run, measure, __doc__, rounds=9)

if __name__ == "__main__":
    main()
