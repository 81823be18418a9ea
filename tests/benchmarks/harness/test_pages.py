"""Tables in Markdown, and their places in the documentation."""

from pathlib import Path

import pytest

from benchmarks.harness.results import error_text, publish, put_between_marks, table
from gsplatloc.utils.errors import GSplatLocError


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
