"""The one error a user is meant to see."""


class UserError(Exception):
    """A mistake the user can mend: one line that names the setting, the value and the remedy.

    The command line prints the message without a traceback and exits with status 2; in a notebook it is
    an ordinary exception.
    """
