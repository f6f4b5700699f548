"""The options of `elf sample`."""

from __future__ import annotations

import argparse

from elf_lightning.cli.options import (
    OneLineParser,
    add_machine,
    add_reading,
    add_settings,
    positive,
    writable,
)
from elf_lightning.sampling.settings import DEFAULT_TRAJECTORIES, SamplingSettings

DEFAULT_NUM = 8
"""Number of texts without `--num`, prompts or templates."""


def sample_parser() -> argparse.ArgumentParser:
    """The parser of `elf sample`; sampling settings that are not given are absent from the result."""
    parser = OneLineParser(prog="elf sample", description="Generate texts from a checkpoint.")
    parser.add_argument(
        "--checkpoint",
        metavar="CHECKPOINT",
        help="a file, a run's folder (its newest checkpoint), a Hub folder, a Hub id (owner/name) or package "
        "(default: the newest checkpoint under runs/, otherwise elf_books)",
    )
    parser.add_argument(
        "--num",
        type=positive,
        metavar="N",
        help=f"number of texts (default: {DEFAULT_NUM}), or of texts per prompt or template (default: 1)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of all random draws (default: 0)"
    )
    _add_inputs(parser)
    _add_outputs(parser)
    _add_machine(parser)
    add_settings(parser, SamplingSettings, "sampling (default: the checkpoint's own)")
    parser.add_argument(
        "--repetition-texts",
        type=positive,
        default=DEFAULT_TRAJECTORIES,
        metavar="N",
        help="texts on which to measure repetition for --repetition-control, unless the checkpoint has a "
        f"measurement (`elf convert --measure-repetition`; default: {DEFAULT_TRAJECTORIES})",
    )
    return parser


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    given = parser.add_argument_group("inputs").add_mutually_exclusive_group()
    given.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help="text to answer (text-to-text models) or to continue (all others); may be repeated",
    )
    given.add_argument("--prompt-file", metavar="FILE", help="prompts, one per line")
    given.add_argument(
        "--infill",
        action="append",
        metavar="TEMPLATE",
        help='text in which each _ is a token to fill in: "The ____ sat on the ____."; may be repeated',
    )


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    outputs = parser.add_argument_group("outputs")
    outputs.add_argument(
        "--output", type=writable, metavar="FILE", help="JSON lines: index, seed, text, tokens"
    )
    outputs.add_argument(
        "--trajectory",
        type=writable,
        metavar="FILE",
        help="an HTML page that shows how the texts emerge from noise; FILE.svg: a picture of the first text",
    )
    outputs.add_argument(
        "--screenshot", type=writable, metavar="FILE", help="an SVG picture of the terminal's output"
    )


def _add_machine(parser: argparse.ArgumentParser) -> None:
    machine = parser.add_argument_group("model and machine")
    machine.add_argument(
        "--batch-size",
        type=positive,
        default=32,
        metavar="N",
        help="texts sampled at once; changes speed and memory, not the texts (default: 32)",
    )
    add_machine(machine)
    machine.add_argument(
        "--compile",
        action="store_true",
        help="sample through torch.compile, which needs a C++ compiler on a CPU, Triton on a GPU; compiling "
        "delays the first batch by up to a minute, later batches are faster",
    )
    add_reading(machine)
