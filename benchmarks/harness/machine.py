"""Which machine, commit and command a measurement was made by."""

import sys
from pathlib import Path

from gsplatloc.utils.machine import commit as commit
from gsplatloc.utils.machine import describe as describe
from gsplatloc.utils.machine import short_commit as short_commit


def command_line() -> str:
    """The command that is running, absolute paths shortened to their last part."""
    return " ".join(Path(word).name if word.startswith("/") else word for word in sys.argv)
