"""Results: what is written, and which rows an interrupted run does not measure again."""

from pathlib import Path

import pytest

from benchmarks.harness.results import Record, origin_line, read_rows, write_rows
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.machine import short_commit


def test_rows_of_this_commit_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    Record(path).put({"scene": "a"}, {"error_m": 0.0123456, "failed": float("inf")})
    found = Record(path).find(scene="a")
    assert found is not None and found["error_m"] == 0.012346 and found["failed"] is None
    assert Record(path).find(scene="b") is None
    assert Record(path, "none").find(scene="a") is None


def test_rows_of_another_commit_are_kept_only_where_all_are(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_rows(path, [{"scene": "a", "commit": "0000000000", "machine": "m"}])
    assert Record(path).find(scene="a") is None
    assert Record(path, "all").find(scene="a") is not None


def test_a_new_row_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_rows(path, [{"scene": name, "commit": "0000000000", "machine": "m"} for name in "ab"])
    record = Record(path, "none")
    record.put({"scene": "a"}, {"ms": 1.0})
    assert [row["scene"] for row in read_rows(path)] == ["a", "b"]
    assert record.find(scene="a") is not None


def test_one_line_names_machines_and_commits() -> None:
    rows = [{"machine": "1 thread on CPU", "commit": commit} for commit in ("0123456789", "abcdefghij")]
    assert origin_line(rows) == "Measured with 1 thread on CPU, commit 0123456 and abcdefg."
    assert short_commit("0123456789+changes") == "0123456 with changes"
    assert short_commit(None) == "unknown"


def test_a_file_of_something_else_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(GSplatLocError, match="rows of results"):
        Record(tmp_path / "other.json")
