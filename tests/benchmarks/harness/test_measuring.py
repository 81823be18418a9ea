"""Measuring beside a matrix product: what is counted, and what is not; and what a child process took."""

import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.harness.measuring import Lap, Probe, Protocol, measure, run
from gsplatloc.utils.errors import GSplatLocError


def spin(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def probe_of(first: float, second: float, outside: float = 0.0) -> Probe:
    def run(lap: Lap) -> None:
        with lap("first"):
            spin(first)
        spin(outside)
        with lap("second"):
            spin(second)

    return Probe("probe", run)


def test_ratios_are_those_of_the_work_and_leave_out_what_is_between_laps() -> None:
    figures = measure([probe_of(0.002, 0.006, outside=0.02)], Protocol(rounds=5, cpu_time=True))
    assert list(figures) == ["probe: first", "probe: second"]
    ratio = figures["probe: second"].least_ms / figures["probe: first"].least_ms
    assert ratio == pytest.approx(3.0, rel=0.2)


def test_processor_time_does_not_count_waiting() -> None:
    def run(lap: Lap) -> None:
        with lap("wait"):
            time.sleep(0.02)

    (figure,) = measure([Probe("probe", run)], Protocol(rounds=3, cpu_time=True)).values()
    assert figure.least_ms < 5


def test_rounds_end_with_the_time_but_not_before_a_third() -> None:
    (figure, _) = measure([probe_of(0.001, 0.001)], Protocol(rounds=9, seconds=0.0)).values()
    assert figure.rounds == 3


def test_the_number_of_threads_is_put_back() -> None:
    before = torch.get_num_threads()
    measure([probe_of(0.0, 0.0)], Protocol(threads=1, rounds=1))
    assert torch.get_num_threads() == before


def test_laps_of_one_name_add_up() -> None:
    def run(lap: Lap) -> None:
        for _ in range(2):
            with lap("half"):
                spin(0.002)

    (figure,) = measure([Probe("probe", run)], Protocol(rounds=3, cpu_time=True)).values()
    assert figure.least_ms >= 4


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
