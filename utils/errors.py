"""The base class of every error that a user can correct."""


class GSplatLocError(Exception):
    """An error that a user can correct: the message says what was expected, what was found, what to do.

    Commands print it on one line and exit with code 1. Any other exception is a bug and keeps its traceback.
    """
