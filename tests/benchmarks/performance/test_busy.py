"""The benchmark of a busy machine: its table, and its competitors."""

import os
import time
from pathlib import Path

import pytest

from benchmarks.performance import busy


def test_times_are_multiples_of_those_of_a_fair_share(pages: Path) -> None:
    common = {"cores": 2, "commit": "abc", "machine": "2 threads"}
    rows = [
        {"what": "training", "competitors": 2, "seconds": {"by load": 22.0, "spinning": 80.0}, **common},
        {"what": "training", "competitors": 0, "seconds": {"by load": 10.0, "spinning": 9.9}, **common},
        {"what": "two trainings at once", "competitors": 0, "seconds": {"by load": 21.0}, **common},
        {"what": "query", "competitors": 0, "seconds": {"by load": 0.04}, **common},
    ]
    busy.publish_busy(rows, pages)
    text = (pages / "docs" / "page.md").read_text()
    assert "| training | 0 | 10.0 s (1.00 ×) | 9.9 s (0.99 ×) |" in text
    assert "| training | 2 | 22.0 s (1.10 ×) | 80.0 s (4.00 ×) |" in text
    assert "| two trainings at once | 0 | 21.0 s (1.05 ×) |" in text
    assert "| query | 0 | 40.0 ms (1.00 ×) |" in text


def test_each_way_of_waiting_has_its_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also where the caller has one of his own, which is there again afterwards."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    seen: list[tuple[str | None, str | None]] = []

    def seconds(kind: str, arguments: busy.BusyArguments) -> float:
        seen.append((os.environ.get("OMP_WAIT_POLICY"), os.environ.get("GOMP_SPINCOUNT")))
        return float(len(seen))

    monkeypatch.setattr(busy, "_seconds", seconds)
    found = busy.measure("training", busy.BusyArguments(work=tmp_path), competitors=1)
    assert seen == [(None, None), (None, "300000"), ("PASSIVE", "0")]
    assert found == {"by load": 1.0, "spinning": 2.0, "asleep": 3.0}
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_competitors_compute_until_the_end() -> None:
    start = os.times()
    with busy.competing(1):
        time.sleep(0.5)
    used = os.times().children_user - start.children_user
    assert used > 0.05
