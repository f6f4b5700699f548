"""`elf convert`: write any checkpoint in the official or the Hub format."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

from elf_lightning.cli.options import OneLineParser, add_reading, positive
from elf_lightning.errors import UserError
from elf_lightning.sampling.settings import DEFAULT_TRAJECTORIES

if TYPE_CHECKING:
    from elf_lightning.checkpoints import ModelBundle
    from elf_lightning.generation import ELF


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="elf convert",
        description="Write a checkpoint in another format.",
        epilog="The official format contains only weights; the Hub format contains all that sampling needs.",
    )
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="a file, a run's folder, a Hub folder, a Hub id (owner/name), or a package such as elf_books",
    )
    parser.add_argument(
        "output",
        type=Path,
        metavar="OUTPUT",
        help="hub: a new folder; official: a new file, or a folder for checkpoint_<step>",
    )
    parser.add_argument(
        "--format",
        choices=("official", "hub"),
        required=True,
        help="of the official ELF code, or of the Hub",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "int8"),
        help="with --format hub: of the weights; int8 has a quarter of the size of float32, with a scale per "
        "output channel of each matrix (default: the checkpoint's)",
    )
    parser.add_argument(
        "--measure-repetition",
        type=positive,
        nargs="?",
        const=DEFAULT_TRAJECTORIES,
        metavar="N",
        help="with --format hub: sample N texts and store their direction of repetition, which sampling with "
        f"--repetition-control needs (default N: {DEFAULT_TRAJECTORIES})",
    )
    add_reading(parser)
    return parser


def run(arguments: Sequence[str]) -> None:
    """Run `["convert", "runs/quickstart", "model", "--format", "hub"]`.

    Raises:
        UserError: for a checkpoint that cannot be read, or an output that already exists.
    """
    options = _parser().parse_args(arguments[1:])
    output: Path = options.output
    if options.measure_repetition and options.format != "hub":
        raise UserError("--measure-repetition: the official format cannot store it; use --format hub")
    if options.dtype and options.format != "hub":
        raise UserError("--dtype: the official format has only the checkpoint's own; use --format hub")
    _check_new(output, options.format)

    from elf_lightning.checkpoints import load_model

    bundle = load_model(
        options.checkpoint, not options.last_weights, options.max_length, options.max_condition_length
    )
    if options.format == "official" and output.is_dir():
        output = output / f"checkpoint_{bundle.config.step}"
        _check_new(output, options.format)
    try:
        _write(bundle, output, options)
    except OSError as error:
        raise UserError(f"output '{output}' cannot be written: {error.strerror}; choose another") from error
    print(f"written: {output}", file=sys.stderr)


def _write(bundle: ModelBundle, output: Path, options: argparse.Namespace) -> None:
    if options.format == "official":
        from elf_lightning.checkpoints import save_official

        save_official(bundle, output)
        return
    from elf_lightning.generation import ELF

    model = ELF(replace(bundle, dtype=options.dtype or bundle.dtype))
    if options.measure_repetition:
        _measure(model, options.measure_repetition)
    model.save_pretrained(output)


def _measure(model: ELF, texts: int) -> None:
    """Measure repetition, with a progress bar of sampling steps."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"measuring repetition in {texts} texts", total=None)
        model.measure_repetition(texts, on_step=lambda _: progress.advance(task))


def _check_new(output: Path, form: str) -> None:
    """Refuse to overwrite anything.

    Raises:
        UserError: if `output` exists and is not a folder to write into.
    """
    free = output.is_dir() and (form == "official" or not any(output.iterdir()))
    if output.exists() and not free:
        raise UserError(f"output '{output}' already exists; choose another name or remove it first")
