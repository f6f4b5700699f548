"""Picks the command, and turns a user's mistake into one line."""

from __future__ import annotations

import argparse
import importlib
import os
import select
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from elf_lightning import __version__
from elf_lightning.cli.options import OneLineParser
from elf_lightning.errors import UserError

COMMANDS = {
    "fit": ("elf_lightning.cli.trainer", "train, from a configuration or a checkpoint"),
    "plan": (
        "elf_lightning.cli.plan",
        "steps, rates and memory of fit with these options; prepares its rows first",
    ),
    "prepare": (
        "elf_lightning.cli.prepare",
        "tokenise fit's corpus now; with --embed, write its latents too",
    ),
    "validate": ("elf_lightning.cli.trainer", "losses and decode accuracy on validation rows"),
    "test": ("elf_lightning.cli.trainer", "generate, score and report: a checkpoint with a configuration"),
    "predict": ("elf_lightning.cli.trainer", "generate on all devices, into one file"),
    "sample": ("elf_lightning.cli.sample", "generate text from a checkpoint, in the terminal"),
    "eval": ("elf_lightning.cli.evaluate", "test, on the newest checkpoint with its own configuration"),
    "eval-text": ("elf_lightning.cli.eval_text", "score texts of any origin under the same metrics"),
    "convert": ("elf_lightning.cli.convert", "write a checkpoint in the official or the Hub format"),
    "config": ("elf_lightning.cli.config", "list or show the configurations that come with the package"),
}
"""Command -> the module whose `run(arguments)` does it, imported only then, and what it is for."""


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:10}{purpose}" for name, (_, purpose) in COMMANDS.items())
    parser = OneLineParser(
        prog="elf",
        usage="elf COMMAND [options]",
        description="Embedded Language Flows: train, sample and evaluate.",
        epilog=f"commands:\n{listed}\n\n`elf COMMAND --help` lists a command's options.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"elf_lightning {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of the commands below")
    parser.add_argument("options", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after `elf`; those of the process by default.

    Returns:
        The exit status: 0; 2 after a user's mistake, which has been told in one line on stderr, or without
        words, after the help; 130 after Ctrl-C; 141 where nobody reads what is printed, as behind `| head`
        (1 where rich prints it).
    """
    try:
        try:
            return _run(sys.argv[1:] if arguments is None else list(arguments))
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_has_left():  # a pipe of another kind
            raise
        # Python would try once more, and complain, when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _reader_has_left() -> bool:
    """Whether what is printed goes into a pipe that nobody reads."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _run(words: Sequence[str]) -> int:
    command = "elf"
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # for a user's own classes, last so that they hide no package
    if not words:
        _parser().print_help(sys.stderr)
        return 2
    try:
        parsed = _parser().parse_args(words)
        command = f"elf {parsed.command}"
        module, _ = COMMANDS[parsed.command]
        importlib.import_module(module).run(words)
    except UserError as error:
        print(f"{command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0
