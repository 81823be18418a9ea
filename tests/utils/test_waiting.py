"""How OpenMP's threads wait: asleep while others want the cores, spinning while they are free."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gsplatloc.utils import waiting
from gsplatloc.utils.waiting import Load, adapt_to_load, group_limit

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's scheduling statistics")

# Seconds of CPU that the process takes while its main thread mostly sleeps, between short parallel loops: the
# other threads of OpenMP spin meanwhile, or sleep, too.
IDLE_WORK = """
import os, time
os.environ.update(OMP_WAIT_POLICY="PASSIVE", GOMP_SPINCOUNT="10000000000")
os.environ["OMP_NUM_THREADS"] = str(len(os.sched_getaffinity(0)))
import torch
from gsplatloc.utils.waiting import Surplus

values = torch.zeros(100_000)

def cpu_s():
    start = time.process_time()
    for _ in range(20):
        values.add_(1)
        time.sleep(0.02)
    return time.process_time() - start

spinning = cpu_s()
surplus = Surplus(len(os.sched_getaffinity(0)))
time.sleep(0.5)
asleep = cpu_s()
surplus.stop()
time.sleep(0.5)
print(spinning, asleep, cpu_s())
"""


@needs_linux
def test_surplus_threads_let_all_threads_sleep_until_they_end() -> None:
    if len(os.sched_getaffinity(0)) == 1:
        pytest.skip("one core: no thread waits")
    words = [sys.executable, "-c", IDLE_WORK]
    run = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    spinning, asleep, again = (float(word) for word in run.stdout.split())
    assert asleep < 0.3 * spinning and asleep < 0.3 * again


def test_load_is_busy_until_the_cores_idle_for_three_looks() -> None:
    load = Load()
    assert not load.look(queued_s=0.01, idle_s=0.0)
    assert load.look(queued_s=0.03, idle_s=0.0)
    assert load.look(queued_s=0.0, idle_s=0.02)
    assert load.look(queued_s=0.0, idle_s=0.02)
    assert load.look(queued_s=0.0, idle_s=0.0), "not three in a row"
    assert load.look(queued_s=0.0, idle_s=0.02)
    assert load.look(queued_s=0.0, idle_s=0.02)
    assert not load.look(queued_s=0.0, idle_s=0.02)


@needs_linux
def test_settings_of_the_user_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    adapt_to_load()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE" and "GOMP_SPINCOUNT" not in os.environ


@needs_linux
def test_the_limit_of_the_control_group_is_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setenv("GOMP_SPINCOUNT", "0")  # no thread is started
    monkeypatch.setattr(waiting, "group_limit", lambda: 2)
    adapt_to_load()
    assert os.environ["OMP_NUM_THREADS"] == "2"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "nonsense\n"}, None),
        ({}, None),
    ],
)
def test_limits_of_control_groups(tmp_path: Path, files: dict[str, str], cores: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert group_limit(tmp_path) == cores
