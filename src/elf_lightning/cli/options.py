"""Options and files shared by several commands."""

import argparse
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from elf_lightning import generation
from elf_lightning.checkpoints.locate import RUNS, find_checkpoint, newest_or_shipped
from elf_lightning.errors import UserError
from elf_lightning.precision import PRECISIONS
from elf_lightning.terminal import printable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean …?)` with the known name that is most like `name`, if any is."""
    close = get_close_matches(name, known, 1)
    return f" (did you mean {close[0]}?)" if close else ""


class OneLineParser(argparse.ArgumentParser):
    """A parser that reports errors in one line and accepts no abbreviated options."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Report an error in the options."""
        option = message.partition("unrecognized arguments: ")[2].partition(" ")[0]
        near = did_you_mean(option, self._option_string_actions) if option else ""
        raise UserError(f"{message}; `{self.prog} --help` lists the options{near}")


def add_checkpoint(parser: argparse._ActionsContainer) -> None:
    """Add the option that names the model, for `load`."""
    places = "a file, a run's folder (its newest checkpoint), a Hub folder, a Hub id (owner/name) or package"
    default = "the newest checkpoint under runs/, otherwise elf_books"
    parser.add_argument("--checkpoint", metavar="CHECKPOINT", help=f"{places} (default: {default})")


def load(options: argparse.Namespace, aside: Console) -> "generation.ELF":
    """The model of `--checkpoint`, by default the newest run's, else the shipped one, which is named.

    Afterwards `options.checkpoint` is the file: of a folder, users want to know which one was the newest.
    """
    with aside.status("reading the checkpoint"):
        from transformers.utils.logging import disable_progress_bar

        # The encoder's progress bar would interrupt ours.
        disable_progress_bar()  # type: ignore[no-untyped-call]
        if options.checkpoint is None:
            options.checkpoint = newest_or_shipped()
            print(printable(f"sampling from {options.checkpoint}"), file=sys.stderr)
        else:
            options.checkpoint = find_checkpoint(options.checkpoint)
        return generation.ELF.from_pretrained(options.checkpoint, **loading(options))


def loading(options: argparse.Namespace) -> dict[str, Any]:
    """The options that say how to load a checkpoint, as arguments of `ELF.from_pretrained`."""
    names = ("averaged", "max_length", "max_condition_length", "encoder", "device", "precision", "compile")
    return {name: value for name, value in vars(options).items() if name in names}


def add_machine(parser: argparse._ActionsContainer) -> None:
    """Add the options that say where a model runs, and how its checkpoint is read."""
    add = parser.add_argument
    add("--device", metavar="NAME", help="such as cpu or cuda:1 (default: a GPU if available)")
    precision = "as in Trainer (default: bf16-mixed on GPUs with bfloat16 arithmetic, otherwise 32-true)"
    add("--precision", choices=PRECISIONS, help=precision)
    add_reading(parser)


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


def named_run(name: object) -> Path:
    """The folder of the run with this name, which must not lead out of `runs/`."""
    if not isinstance(name, str):
        raise UserError(f"name is {name!r:.40}; give it another value, or leave it out")
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
