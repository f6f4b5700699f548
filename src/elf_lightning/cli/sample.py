"""`elf sample`: text from a checkpoint, in the terminal."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.panel import Panel
from rich.progress import Progress
from rich.text import Text

from elf_lightning.cli.options import OneLineParser, add_settings, positive, writable
from elf_lightning.errors import UserError
from elf_lightning.reporting import TextPath, trajectory_page
from elf_lightning.sampling import SamplingSettings

if TYPE_CHECKING:
    from elf_lightning.modules.generator import ELF
    from elf_lightning.modules.samples import Sample

UNPROMPTED = 8
"""Texts without `--num` where there is no prompt or template; for each of these it is one."""
MOST_STAGES = 64
"""Times at most on a trajectory's page: each costs a decoding."""


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="elf sample", description="Generate text from a checkpoint.")
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="WHERE", help="a file, a run's folder (its newest checkpoint), a "
        "folder in the Hub format, or a Hub id such as owner/name")  # fmt: skip
    add("--num", type=positive, metavar="N", help=f"texts; for each prompt or template, if there are any "
        f"(default: {UNPROMPTED}, or 1 for each)")  # fmt: skip
    add("--seed", type=int, default=0, metavar="N", help="of all random draws: the same seed gives the same texts "
        "(default: 0)")  # fmt: skip
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--prompt", action="append", metavar="TEXT", help="text to answer (text-to-text models) or "
        "to go on from (all others); may be repeated")  # fmt: skip
    given.add_argument("--prompt-file", metavar="FILE", help="a file with a prompt on each line")
    given.add_argument("--infill", action="append", metavar="TEMPLATE", help='a text in which each _ is one token '
        'to fill in, such as "The ____ sat on the ____."; may be repeated')  # fmt: skip
    add("--output", type=writable, metavar="FILE", help="write JSON lines: index, seed, text, tokens")
    add("--trajectory", type=writable, metavar="FILE", help="write an HTML page that shows the texts emerge")
    add("--batch-size", type=positive, default=32, metavar="N", help="texts sampled at once; changes memory and "
        "speed, not the texts (default: 32)")  # fmt: skip
    add("--device", metavar="NAME", help="such as cpu or cuda:1 (default: a GPU if there is one)")
    add("--precision", default="32-true", choices=["32-true", "bf16-mixed", "16-mixed"], help="as the Trainer "
        "calls it (default: 32-true)")  # fmt: skip
    add("--last-weights", action="store_true", help="the last weights of training rather than averaged ones")
    add_settings(parser, SamplingSettings, "sampling (default: the checkpoint's own settings)")
    return parser
