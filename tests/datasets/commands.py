"""Commands that set up data sets, as a user runs them."""

import subprocess
import sys
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[2]


def run_python(*words: object) -> subprocess.CompletedProcess[str]:
    """`python WORDS` at the root of the repository, without a terminal."""
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=_REPOSITORY,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
