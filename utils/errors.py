"""The root of every error that a user can mend."""


class GSplatLocError(Exception):
    """Something a user can fix: the message says what was expected, what was found and what to do.

    Scripts print it on one line and exit with code 1. Any other exception is a bug and may trace back.
    """
