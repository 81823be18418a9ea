"""What a child process took."""

import sys
from pathlib import Path

import pytest

from benchmarks.harness.measuring import run
from gsplatloc.utils.errors import GSplatLocError


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_memory_of_a_child_is_its_own(tmp_path: Path) -> None:
    """`ru_maxrss` of a child is at least the largest size of its parent: Linux inherits it."""
    large = bytearray(b"1" * (300 << 20))
    cost = run(["-c", "import time; a = b'1' * (60 << 20); time.sleep(0.5)"], tmp_path / "log")
    assert len(large) == 300 << 20
    assert 60 << 20 < cost.peak_bytes < 150 << 20
    assert cost.seconds > 0.5 and cost.cpu_seconds > 0


def test_a_child_that_fails_is_an_error_with_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="failed with 3: .*no such luck"):
        run(["-c", "print('no such luck'); raise SystemExit(3)"], tmp_path / "log")
