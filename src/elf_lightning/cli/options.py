"""What the commands' options have in common."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

import docstring_parser

from elf_lightning.errors import UserError
from elf_lightning.precision import PRECISIONS


class OneLineParser(argparse.ArgumentParser):
    """A parser that complains in one line and guesses no abbreviations."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the options.

        Raises:
            UserError: always.
        """
        raise UserError(f"{message}; `{self.prog} --help` lists the options")


def add_settings(parser: argparse.ArgumentParser, settings: type, title: str) -> None:
    """Give the parser an option for each field of a dataclass; those not given are left out of the result.

    Args:
        parser: the command's.
        settings: a dataclass whose docstring describes its fields.
        title: of the options in `--help`.
    """
    documented = docstring_parser.parse(settings.__doc__ or "").params
    purpose = {
        entry.arg_name: " ".join((entry.description or "").split()).rstrip(".") for entry in documented
    }
    hints = get_type_hints(settings)
    group = parser.add_argument_group(title)
    for field in fields(settings):
        group.add_argument(
            f"--{field.name.replace('_', '-')}",
            default=argparse.SUPPRESS,
            help=purpose[field.name].replace("%", "%%"),
            **_reading(hints[field.name]),
        )


def _reading(hint: Any) -> dict[str, Any]:
    """How to read a field's type: a name, a number, a switch, a list of numbers, or a dictionary."""
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    if get_origin(hint) is dict:
        return {"type": json.loads, "metavar": "JSON"}
    kind = next((kind for kind in get_args(hint) if kind is not NoneType), hint)
    if get_origin(kind) is list:
        return {"type": get_args(kind)[0], "nargs": "+", "metavar": "VALUE"}
    return {"type": kind, "metavar": "NAME" if kind is str else "N"}


def add_reading(parser: argparse._ActionsContainer) -> None:
    """Give the parser the options that say how to read a checkpoint."""
    parser.add_argument(
        "--last-weights", action="store_true", help="the last weights of training, not the averaged ones"
    )
    parser.add_argument(
        "--max-length",
        type=positive,
        metavar="N",
        help="tokens of the longest row, for published checkpoints, which do not say (default: 1024)",
    )
    parser.add_argument(
        "--max-condition-length",
        type=positive,
        metavar="N",
        help="tokens of the longest prompt, for published checkpoints of text-to-text models",
    )


def add_machine(parser: argparse._ActionsContainer) -> None:
    """Give the parser the options that say where a model runs."""
    parser.add_argument(
        "--device", metavar="NAME", help="such as cpu or cuda:1 (default: a GPU if there is one)"
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="as the Trainer calls it (default: bf16-mixed on a GPU that computes in bfloat16, else 32-true)",
    )


def positive(text: str) -> int:
    """A whole number above 0, for `type=`.

    Raises:
        ArgumentTypeError: for a number below 1; argparse makes a message of it, and of a ValueError.
        ValueError: for what is no whole number.
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is too few, it must be at least 1")
    return number


def writable(text: str) -> Path:
    """A file that can be written, for `type=`; its folder is made.

    Raises:
        ArgumentTypeError: if it cannot be written; argparse makes a message of it.
    """
    path = Path(text)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        usable = not path.is_dir() and os.access(path if path.exists() else path.parent, os.W_OK)
    except OSError:
        usable = False
    if not usable:
        raise argparse.ArgumentTypeError(f"'{text}' cannot be written; choose another file")
    return path
