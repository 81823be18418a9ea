"""The tables of docs/performance.md."""

from pathlib import Path

import pytest

from benchmarks.suite_report import BEGIN, END, breakdown_table, figures_table, put_between_marks
from gsplatloc.utils.errors import GSplatLocError

FIGURES = {
    "training: rasterizer, forward": {"median_ms": 6.0, "least_ms": 5.0, "paired_gflop": 1.0},
    "training: Adam": {"median_ms": 1.0, "least_ms": 0.9, "paired_gflop": 0.2},
    "training: iteration": {"median_ms": 10.0, "least_ms": 9.0, "paired_gflop": 1.8},
}


def test_the_breakdown_adds_up_to_the_iteration() -> None:
    table = "\n".join(breakdown_table(FIGURES))
    assert "| rasterizer, forward | 6.0 ms (60 %) |" in table
    assert "Python | 3.0 ms (30 %) |" in table
    assert "| **whole** | **10.0 ms** |" in table


def test_parts_of_iterations_stand_in_the_breakdown_only() -> None:
    table = "\n".join(figures_table(FIGURES))
    assert "training: iteration" in table
    assert "rasterizer, forward" not in table


def test_only_what_is_between_the_marks_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    put_between_marks(page, "new\n")
    assert page.read_text() == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"


def test_a_page_without_marks_is_an_error(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("no marks\n")
    with pytest.raises(GSplatLocError, match="put them back"):
        put_between_marks(page, "new\n")
