"""What is printed: nothing in a text, a file or a name can control the terminal."""

import logging
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from elf_lightning.whole_file import DISK_ERRORS, not_writable

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""The text with control characters, bidirectional overrides and lone surrogates written as `\x1b`."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


class Terminal(Console):
    """A rich console that prints texts as `printable` gives them, and interprets no markup in them.

    If the reader of stdout has closed the pipe, as `| head` does, the process ends with status 141.
    """

    ends_with_pipe = True  # False goes on without printing

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of a renderable, with printable texts."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))

    def on_broken_pipe(self) -> None:
        """End the process, or print nothing more."""
        self.quiet = True
        close_stdout()
        if self.ends_with_pipe:
            raise SystemExit(128 + signal.SIGPIPE)


@cache
def get_console() -> Terminal:
    """The console of this process."""
    return Terminal()


@contextmanager
def if_room() -> Iterator[None]:
    """Print to stdout only while its disk has room; after that, nothing is printed there."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        print(f"stdout cannot be written ({error.strerror}); nothing more is printed", file=sys.stderr)
        close_stdout()


def close_stdout() -> None:
    """Throw away what is still to be printed: at exit, Python would flush it again and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(line: str) -> None:
    """Print a line at once, as `printable` gives it, while stdout's disk has room."""
    with if_room():
        print(printable(line), flush=True)


class _PrintableRecord(logging.LogRecord):
    def getMessage(self) -> str:  # noqa: N802
        return printable(super().getMessage())


def print_messages_safely() -> None:
    """Make what all packages log and warn of printable; once more after a package has set another format.

    Packages that are imported afterwards show no progress bars where stderr is no terminal.
    """
    if not sys.stderr.isatty():
        for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
            os.environ.setdefault(name, "1")
    logging.setLogRecordFactory(_PrintableRecord)
    form = warnings.formatwarning
    if form.__module__ != __name__:
        warnings.formatwarning = lambda *args, **options: printable(form(*args, **options))


def quiet_lightning() -> None:
    """Silence advertisements, the seed (it is among the settings) and messages for Lightning's developers."""
    print_messages_safely()
    if getattr(threading.excepthook, "func", None) is not _unless_full:
        threading.excepthook = partial(_unless_full, threading.excepthook)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_tip)
    for name in ("fabric.utilities.seed", "pytorch.trainer.connectors.checkpoint_connector"):
        logging.getLogger(f"lightning.{name}").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
    # Commands that do not train need no checkpoint callback.
    warnings.filterwarnings("ignore", message=r"Be aware that when using `ckpt_path`")
    warnings.filterwarnings("ignore", message=r"Checkpoint directory .* exists and is not empty")
    # The oldest supported torch has no replacement.
    warnings.filterwarnings("ignore", message=r"`broadcast_buffers` is deprecated", category=FutureWarning)


def _is_no_tip(record: logging.LogRecord) -> bool:
    return "Tip:" not in record.getMessage()


def _unless_full(otherwise: Callable[..., object], failed: threading.ExceptHookArgs) -> None:
    """Print no traceback of TensorBoard's thread on a full disk: its logger says so in one line."""
    if failed.exc_value is None or not not_writable(failed.exc_value):
        otherwise(failed)
