"""Dispatches to the command, and reports a user's mistake in one line."""

import argparse
import importlib
import select
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from elf_lightning import __version__
from elf_lightning.cli.options import OneLineParser
from elf_lightning.errors import Stopped, UserError
from elf_lightning.terminal import close_stdout, if_room, print_messages_safely, printable
from elf_lightning.whole_file import not_writable, not_written

COMMANDS = {
    "fit": ("trainer", "train, from a configuration or a checkpoint"),
    "distill": ("distill", "teach students to sample in few steps, round by round"),
    "plan": ("dry_run", "print the steps, learning rate and memory of a fit"),
    "prepare": ("dry_run", "tokenise the corpus; with --embed, also write its latents"),
    "latent-stats": ("dry_run", "measure the latent statistics of a corpus"),
    "validate": ("trainer", "measure losses and decode accuracy on the validation set"),
    "test": ("trainer", "generate texts, score them and write a report"),
    "predict": ("trainer", "generate texts on all devices, into one file"),
    "sample": ("sample", "generate texts from a checkpoint, in the terminal"),
    "demo": ("demo", "open a page in the browser where texts settle from noise"),
    "eval": ("evaluate", "run test on any checkpoint, by default the newest"),
    "eval-text": ("eval_text", "score texts from any source with the same metrics"),
    "convert": ("convert", "write a checkpoint in the official or the Hub format"),
    "config": ("config", "list or show the configurations shipped with the package"),
}
"""Command -> the module beside this one whose `run(arguments)` executes it, and its purpose.

All of them raise `UserError` for options, files and checkpoints that cannot be used.
"""

LONGEST = 2_000  # characters of a message; of a longer one, the beginning and the end are shown


SHORT_HELP = """usage: elf {command} --config CONFIG [--SETTING VALUE ...]

{purpose}

options:
  --config NAME          a configuration of the package or a file; a later one
                         changes those before it
  --name NAME            the run's folder is runs/NAME
  --ckpt_path PLACE      a checkpoint or a run's folder: fit continues it
  --print_config         print all settings in force, and do nothing else

settings that are often changed:
  --data.source CLASS    TextFiles, JsonLines, HubDataset, ...
  --data.source.path PATH
  --data.max_length N    tokens in a sequence
  --data.batch_size N    sequences per device and micro-batch
  --model.init_from PLACE
                         a model whose weights a new run begins with
  --model.optimizer.base_learning_rate RATE
                         for 256 sequences; it grows with the batch
  --trainer.max_steps N  optimizer steps of the run
  --trainer.max_time DD:HH:MM:SS
  --trainer.devices N    by default all GPUs, or one CPU
  --trainer.precision P  such as bf16-mixed

more:
  elf config list        the configurations
  elf {command} --help-all
                         every setting, with its meaning and default
  elf {command} --data.source.help JsonLines
                         the settings of a class
"""


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:13}{purpose}" for name, (_, purpose) in COMMANDS.items())
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
        The exit status: 0 for success; 2 after a user's mistake, reported in one line on stderr, or after
        the help if no command was given; 130 after Ctrl-C; 143 if SIGTERM or SIGUSR1 has ended a run; 141 if
        the reader of stdout has closed the pipe, as `| head` does.
    """
    words, command = sys.argv[1:] if arguments is None else list(arguments), "elf"
    print_messages_safely()
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # for a user's own classes; last, so that they shadow no package
    try:
        try:
            if not words:
                _parser().print_help(sys.stderr)
                return 2
            parsed = _parser().parse_args(words)
            command = f"elf {parsed.command}"
            module, purpose = COMMANDS[parsed.command]
            if module == "trainer" and {"-h", "--help"} & {*words}:  # Lightning alone takes seconds
                print(SHORT_HELP.format(command=parsed.command, purpose=f"{purpose.capitalize()}."))
                return 0
            importlib.import_module(f"elf_lightning.cli.{module}").run(words)
            return 0
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        except Stopped as stopped:
            if stopped.announced:
                print(f"{command}: {stopped.message}", file=sys.stderr)
            return int(stopped.code or 0)
        except SystemExit as end:
            if isinstance(end.__context__, KeyboardInterrupt):  # Lightning exits with 1
                return 128 + signal.SIGINT
            raise
        except Exception as error:
            message = " ".join(str(error).split())
            if not isinstance(error, UserError):
                if (cause := not_writable(error)) is None:
                    raise
                message = not_written(Path(str(cause.filename or "a file")), cause)
            if len(message) > LONGEST:  # a file may hold any value
                message = f"{message[: LONGEST // 2]} … {message[-LONGEST // 2 :]}"
            print(printable(f"{command}: {message}"), file=sys.stderr)
            return 2
        finally:
            with if_room():
                sys.stdout.flush()
    except BrokenPipeError:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLOUT)
        if not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
            raise  # stdout is still read: another pipe broke
        close_stdout()
        return 128 + signal.SIGPIPE
