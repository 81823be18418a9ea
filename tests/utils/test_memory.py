"""Freed memory goes back to the system."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc's malloc_trim and /proc")
def test_holes_in_the_heap_are_handed_back() -> None:
    script = (
        "import numpy as np\n"
        "from utils.memory import trim_heap\n"
        "def resident(): return int(open('/proc/self/statm').read().split()[1]) * 4096\n"
        "arrays = [np.ones(60_000, np.uint8) for _ in range(4000)]\n"
        "del arrays[::2]\n"  # holes: every other one stays
        "before = resident()\n"
        "trim_heap()\n"
        "raise SystemExit(before - resident() < 50e6)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=60).returncode == 0
