"""The base class of every error that a user can correct."""

QUOTE_LENGTH = 200  # characters of a broken file that an error message repeats


class GSplatLocError(Exception):
    """An error that a user can correct: the message says what was expected, what was found, what to do.

    Commands print it on one line and exit with code 1. Any other exception is a bug and keeps its traceback.
    """


def quoted(found: object) -> str:
    """`found` for an error message: on one line, its middle left out if it is long."""
    text = " ".join(str(found).split())
    if len(text) <= QUOTE_LENGTH:
        return text
    half = QUOTE_LENGTH // 2
    return f"{text[:half]} ... {text[-half:]}"
