"""Options and files shared by several commands."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args, get_origin, get_type_hints

import docstring_parser
from rich.console import Console

from elf_lightning.checkpoints.locate import (
    RUNS,
    checkpoint_files,
    find_checkpoint,
    newest_checkpoint,
    shipped_model,
)
from elf_lightning.errors import UserError
from elf_lightning.precision import PRECISIONS
from elf_lightning.terminal import printable

if TYPE_CHECKING:
    from elf_lightning.generation import ELF

CHECKPOINT = """a file, a run's folder (its newest checkpoint), a Hub folder, a Hub id (owner/name) or package
(default: the newest checkpoint under runs/, otherwise elf_books)"""


class OneLineParser(argparse.ArgumentParser):
    """A parser that reports errors in one line and accepts no abbreviated options."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Report an error in the options."""
        raise UserError(f"{message}; `{self.prog} --help` lists the options")


def add_settings(parser: argparse.ArgumentParser, settings: type, title: str) -> None:
    """Add an option for each field of a documented dataclass; those not given are absent from the result."""
    documented = docstring_parser.parse(settings.__doc__ or "").params
    purpose = {one.arg_name: " ".join((one.description or "").split()).rstrip(".") for one in documented}
    hints, group = get_type_hints(settings), parser.add_argument_group(title)
    for field in fields(settings):
        option, described = f"--{field.name.replace('_', '-')}", purpose[field.name].replace("%", "%%")
        group.add_argument(
            option, default=argparse.SUPPRESS, help=described, **_argument_for(hints[field.name])
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


def add_checkpoint(parser: argparse._ActionsContainer) -> None:
    """Add the option that names the model, for `load`."""
    parser.add_argument("--checkpoint", metavar="CHECKPOINT", help=CHECKPOINT)


def load(options: argparse.Namespace, doing: str, aside: Console) -> ELF:
    """The model of `--checkpoint`, by default the newest run's, else the shipped one: "`doing` …" names it.

    Afterwards `options.checkpoint` is the file: of a folder, users want to know which one was the newest.
    """
    with aside.status("reading the checkpoint"):
        from transformers.utils.logging import disable_progress_bar

        from elf_lightning.generation import ELF

        # The encoder's progress bar would interrupt ours.
        disable_progress_bar()  # type: ignore[no-untyped-call]
        if options.checkpoint is None:
            options.checkpoint = newest_or_shipped()
            print(printable(f"{doing} {options.checkpoint}"), file=sys.stderr)
        else:
            options.checkpoint = find_checkpoint(options.checkpoint)
        return ELF.from_pretrained(options.checkpoint, **loading(options))


def newest_or_shipped() -> Path:
    """The newest checkpoint under runs/; without any, the model that is shipped."""
    files = checkpoint_files(RUNS) or checkpoint_files(RUNS, "checkpoint_*")
    return newest_checkpoint(RUNS) if files else shipped_model()


def add_reading(parser: argparse._ActionsContainer) -> None:
    """Add the options that say how to read a checkpoint."""
    averaged = "use the last weights instead of the averaged ones"
    parser.add_argument("--last-weights", dest="averaged", action="store_false", help=averaged)
    length = "maximum length in tokens, for published checkpoints, which do not state it (default: 1024)"
    parser.add_argument("--max-length", type=positive, metavar="N", help=length)
    encoder = "where its encoder is now: a folder, Hub id or package (default: where it was in training)"
    parser.add_argument("--encoder", metavar="PLACE", help=encoder)
    condition = "maximum length of a prompt in tokens, for published checkpoints of text-to-text models"
    parser.add_argument("--max-condition-length", type=positive, metavar="N", help=condition)


def loading(options: argparse.Namespace) -> dict[str, Any]:
    """The options that say how to load a checkpoint, as arguments of `ELF.from_pretrained`."""
    names = ("averaged", "max_length", "max_condition_length", "encoder", "device", "precision", "compile")
    return {name: value for name, value in vars(options).items() if name in names}


def add_machine(parser: argparse._ActionsContainer) -> None:
    """Add the options that say where a model runs."""
    device = "such as cpu or cuda:1 (default: a GPU if available)"
    parser.add_argument("--device", metavar="NAME", help=device)
    precision = "as in Trainer (default: bf16-mixed on GPUs with bfloat16 arithmetic, otherwise 32-true)"
    parser.add_argument("--precision", choices=PRECISIONS, help=precision)


def named_run(name: str) -> Path:
    """The folder of the run with this name, which must not lead out of `runs/`."""
    parts, remote = Path(name).parts, "::" in name or "://" in name
    if not parts or parts[0] == "/" or ".." in parts or remote or not name.isprintable():
        raise UserError(f"--name {name!r}: give the name of a folder below {RUNS}/, such as mine")
    return RUNS / name


def positive(text: str) -> int:
    """A positive integer, for `type=`; argparse turns the errors into messages."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is too small; it must be at least 1")
    return number


def writable(text: str) -> Path:
    """A writable file, for `type=`; its folder is created. Argparse turns the error into a message."""
    path = Path(text)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_dir() and os.access(path if path.exists() else path.parent, os.W_OK):
            return path
    raise argparse.ArgumentTypeError(f"'{text}' cannot be written; choose another file")
