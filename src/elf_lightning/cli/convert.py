"""`elf convert`: any checkpoint into the official or the Hub format."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from elf_lightning.cli.options import OneLineParser
from elf_lightning.errors import UserError


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="elf convert",
        description="Write a checkpoint in another format.",
        epilog="The official format holds weights alone; the Hub format holds all that sampling needs.",
    )
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="a file, a run's folder, a Hub folder, or a Hub id (owner/name)",
    )
    parser.add_argument(
        "output",
        type=Path,
        metavar="OUTPUT",
        help="hub: a new folder; official: a new file, or a folder for checkpoint_<step>",
    )
    parser.add_argument(
        "--format", choices=("official", "hub"), required=True, help="the official ELF code's, or the Hub's"
    )
    parser.add_argument(
        "--last-weights", action="store_true", help="the last weights of training, not the averaged ones"
    )
    return parser


def run(arguments: Sequence[str]) -> None:
    """Convert, as in `["convert", "runs/quickstart", "model", "--format", "hub"]`.

    Raises:
        UserError: for a checkpoint that cannot be read, or an output that is there already.
    """
    options = _parser().parse_args(arguments[1:])
    output: Path = options.output
    _check_new(output, options.format)

    from elf_lightning.checkpoints import load_model, save_official
    from elf_lightning.modules.generator import ELF

    bundle = load_model(options.checkpoint, averaged=not options.last_weights)
    if options.format == "hub":
        ELF(bundle, "cpu").save_pretrained(output)
    else:
        output = output / f"checkpoint_{bundle.step}" if output.is_dir() else output
        _check_new(output, options.format)
        save_official(bundle, output)
    print(f"written: {output}", file=sys.stderr)


def _check_new(output: Path, form: str) -> None:
    """Nothing is written over: what is there may be the only copy of something."""
    free = output.is_dir() and (form == "official" or not any(output.iterdir()))
    if output.exists() and not free:
        raise UserError(f"output '{output}' is there already; choose another or remove it first")
