"""The tables and the plot of the performance benchmark."""

from pathlib import Path

from benchmarks.performance.command import breakdown_table, figures_table, publish_performance

FIGURES = {
    "training: rasterizer, forward": {"median_ms": 6.0, "least_ms": 5.0, "paired_gflop": 1.0},
    "training: Adam": {"median_ms": 1.0, "least_ms": 0.9, "paired_gflop": 0.2},
    "training: iteration": {"median_ms": 10.0, "least_ms": 9.0, "paired_gflop": 1.8},
}


def test_the_breakdown_adds_up_to_the_iteration() -> None:
    table = breakdown_table(FIGURES)
    assert "| rasterizer, forward | 6.0 ms (60 %) |" in table
    assert "Python | 3.0 ms (30 %) |" in table
    assert "| **whole** | **10.0 ms** |" in table


def test_parts_of_iterations_stand_in_the_breakdown_only() -> None:
    table = figures_table(FIGURES)
    assert "training: iteration" in table
    assert "rasterizer, forward" not in table


def test_the_page_gets_tables_and_the_plot_of_growth(pages: Path) -> None:
    machine = {"processor": "CPU", "isa": "avx2", "threads": 2, "commit": "0123456789"}
    curve = {"x": [1.0, 2.0], "forward": [1.0, 2.0], "backward": [2.0, 3.0]}
    growth = dict.fromkeys(("gaussians", "pixels", "channels", "threads"), curve)
    mapping = {"scene": "room", "seconds": 90.0, "peak_bytes": 1e9, "gflop": 5e3}
    publish_performance({"machine": machine, "figures": FIGURES, "growth": growth, "mapping": mapping}, pages)
    text = (pages / "docs" / "page.md").read_text()
    assert "CPU, 2 threads, avx2" in text and "Whole mapping of room: 1.5 min" in text
    assert (pages / "docs" / "images" / "growth.png").read_bytes().startswith(b"\x89PNG")
