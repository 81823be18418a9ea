"""Rows of results: what is written, and what is not measured again; and tables in the documentation."""

from pathlib import Path

import pytest

from benchmarks.harness.results import (
    Record,
    error_text,
    origin_line,
    publish,
    put_between_marks,
    read_rows,
    table,
    write_rows,
)
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


def test_a_table_without_rows_is_nothing() -> None:
    assert table(["a", "b"], []) == ""
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert error_text(0.004, 0.1) == "0.400 cm / 0.100°" and error_text(None, None) == "–"


def test_only_the_text_between_the_marks_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- x: begin -->\nold\n<!-- x: end -->\nafter\n")
    put_between_marks(page, "x", "new\n")
    assert page.read_text() == "before\n<!-- x: begin -->\n\nnew\n\n<!-- x: end -->\nafter\n"


def test_a_text_goes_to_every_page_that_has_its_marks(pages: Path) -> None:
    folder = pages / "docs" / "deep"
    folder.mkdir()
    (folder / "more.md").write_text("<!-- rgbd: begin --><!-- rgbd: end -->")
    assert publish({"rgbd": "table", "unused": "x"}, pages) == [
        folder / "more.md",
        pages / "docs" / "page.md",
    ]
    assert "table" in (folder / "more.md").read_text()


def test_a_text_without_a_place_is_an_error(pages: Path) -> None:
    with pytest.raises(GSplatLocError, match="put it back"):
        publish({"elsewhere": "table"}, pages)
