"""Options shared by several commands."""

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
    """A parser that reports errors in one line and accepts no abbreviated options."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Report an error in the options.

        Raises:
            UserError: always.
        """
        raise UserError(f"{message}; `{self.prog} --help` lists the options")


def add_settings(parser: argparse.ArgumentParser, settings: type, title: str) -> None:
    """Add an option for each field of a dataclass; options not given are absent from the result.

    Args:
        parser: the parser of the command.
        settings: a dataclass whose docstring describes its fields.
        title: heading of these options in `--help`.
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
            **_argument_for(hints[field.name]),
        )


def _argument_for(hint: Any) -> dict[str, Any]:
    """Arguments of `add_argument` for a field's type: name, number, switch, list of numbers or dictionary."""
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
    """Add the options that say how to read a checkpoint."""
    parser.add_argument(
        "--last-weights",
        action="store_true",
        help="use the last weights instead of the averaged ones",
    )
    parser.add_argument(
        "--max-length",
        type=positive,
        metavar="N",
        help="maximum length in tokens, for published checkpoints, which do not state it (default: 1024)",
    )
    parser.add_argument(
        "--max-condition-length",
        type=positive,
        metavar="N",
        help="maximum length of a prompt in tokens, for published checkpoints of text-to-text models",
    )


def add_machine(parser: argparse._ActionsContainer) -> None:
    """Add the options that say where a model runs."""
    parser.add_argument(
        "--device", metavar="NAME", help="such as cpu or cuda:1 (default: a GPU if available)"
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="as in Trainer (default: bf16-mixed on GPUs with bfloat16 arithmetic, otherwise 32-true)",
    )


def positive(text: str) -> int:
    """A positive integer, for `type=`; argparse turns the errors into messages.

    Raises:
        ArgumentTypeError: for a number below 1.
        ValueError: for anything but an integer.
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is too small; it must be at least 1")
    return number


def writable(text: str) -> Path:
    """A writable file, for `type=`; its folder is created.

    Raises:
        ArgumentTypeError: if it cannot be written; argparse turns it into a message.
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
