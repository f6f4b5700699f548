"""How long commands take to say the first thing, beside the import of torch, which all real work waits for.

    python -m benchmarks.startup --rounds 9 --json startup.json

Each is run as a process of its own, in turn with the others. The last line is what no training command can be
faster than: Lightning and its command line parser, imported.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.rounds import Rounds, alternate, report, rounds_table

TORCH = "import torch"
_BIN = Path(sys.executable).parent
COMMANDS: dict[str, Sequence[str | Path]] = {
    TORCH: (sys.executable, "-c", "import torch"),
    "import elf_lightning": (sys.executable, "-c", "import elf_lightning"),
    "from elf_lightning import ELF": (sys.executable, "-c", "from elf_lightning import ELF"),
    "elf --help": (_BIN / "elf", "--help"),
    "elf sample --help": (_BIN / "elf", "sample", "--help"),
    "lightning fit --help": (_BIN / "lightning", "fit", "--help"),
    "import lightning.pytorch.cli": (sys.executable, "-c", "import lightning.pytorch.cli"),
}


def run(command: Sequence[str | Path]) -> None:
    """Runs a command to its end.

    Raises:
        subprocess.CalledProcessError: if it fails.
    """
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def measure(rounds: int) -> Rounds:
    """All commands in turn, after one round that fills the caches."""
    return alternate({name: partial(run, command) for name, command in COMMANDS.items()}, rounds)


def main() -> None:
    """Measures, prints and writes what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9, help="times that each command is run (default: 9)")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args()
    rounds = measure(options.rounds)
    options.device = "cpu"
    table = rounds_table("Start-up; `times` above 1 is faster than importing torch", rounds, TORCH)
    report([table], {"startup": rounds.record(TORCH)}, options)


if __name__ == "__main__":
    main()
