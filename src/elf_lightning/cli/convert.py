"""`elf convert`: write any checkpoint in the official or the Hub format."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.progress import Progress

from elf_lightning import checkpoints, generation
from elf_lightning.cli.options import OneLineParser, add_reading, loading, positive
from elf_lightning.errors import UserError
from elf_lightning.sampling.settings import DEFAULT_TRAJECTORIES
from elf_lightning.terminal import Terminal, printable

DTYPE = """with --format hub: of the weights; int8 has a quarter of the size of float32, with a scale per
output channel of each matrix (default: the checkpoint's)"""
MEASURE = f"""with --format hub: sample N texts and store their direction of repetition, which sampling with
--repetition-control needs (default N: {DEFAULT_TRAJECTORIES})"""
WORDS = """with --format hub: list the words of these text files (a file, folder or pattern), to which
sampling with --known-words keeps; about a minute for 100 MB"""


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="elf convert",
        description="Write a checkpoint in another format.",
        epilog="The official format contains only weights; the Hub format contains all that sampling needs.",
    )
    add, default = parser.add_argument, DEFAULT_TRAJECTORIES
    source = "a file, a run's folder, a Hub folder, a Hub id (owner/name), or a package such as elf_books"
    add("checkpoint", metavar="CHECKPOINT", help=source)
    output = "hub: a new folder; official: a new file, or a folder for checkpoint_<step>"
    add("output", type=Path, metavar="OUTPUT", help=output)
    formats = "of the official ELF code, or of the Hub"
    add("--format", choices=("official", "hub"), required=True, help=formats)
    add("--dtype", choices=("float32", "bfloat16", "int8"), help=DTYPE)
    add("--measure-repetition", type=positive, nargs="?", const=default, metavar="N", help=MEASURE)
    add("--words", metavar="TEXTS", help=WORDS)
    add_reading(parser)
    return parser


def run(arguments: Sequence[str]) -> None:
    """Run `["convert", "runs/quickstart", "model", "--format", "hub"]`."""
    options = _parser().parse_args(arguments[1:])
    output: Path = options.output
    for name in ("measure_repetition", "words", "dtype"):
        if options.format == "official" and getattr(options, name):
            option = f"--{name.replace('_', '-')} {getattr(options, name)}"
            raise UserError(f"{option}: the official format cannot store it; use --format hub")
    _check_new(output, options.format)
    bundle = checkpoints.load_model(options.checkpoint, **loading(options))
    if options.format == "official":
        if output.is_dir():
            output = output / f"checkpoint_{bundle.config.step}"
            _check_new(output, options.format)
        checkpoints.save_official(bundle, output)
    else:
        if options.words:
            bundle = _with_words(bundle, options.words)
        model = generation.ELF(replace(bundle, dtype=options.dtype or bundle.dtype))
        if texts := options.measure_repetition:
            console = Terminal(stderr=True)
            with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
                task = progress.add_task(f"measuring repetition in {texts} texts", total=None)
                model.measure_repetition(texts, on_step=lambda _: progress.advance(task))
        model.save_pretrained(output)
    print(printable(f"written: {output}"), file=sys.stderr)


def _with_words(bundle: "checkpoints.ModelBundle", path: str) -> "checkpoints.ModelBundle":
    """The model with the words of the text files at `path`."""
    from elf_lightning.codec.word_pieces import words_in_pieces
    from elf_lightning.data.sources.files import text_lines

    codec = bundle.config.codec
    if codec is None:
        raise UserError("--words: the checkpoint does not say which tokenizer it has; use another")
    words = words_in_pieces(codec.text_tokenizer, text_lines(path))
    return replace(bundle, config=replace(bundle.config, codec=replace(codec, words=words)))


def _check_new(output: Path, form: str) -> None:
    free = output.is_dir() and (form == "official" or not any(output.iterdir()))
    if output.exists() and not free:
        raise UserError(f"output '{output}' already exists; choose another name or remove it first")
