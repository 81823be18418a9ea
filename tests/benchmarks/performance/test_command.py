"""Every probe runs, once or a few times; the tables and the plot that are made of the figures."""

from pathlib import Path

import pytest

from benchmarks.harness.measuring import Protocol, measure
from benchmarks.performance import command, training
from benchmarks.performance.command import (
    PerformanceArguments,
    breakdown_table,
    figures_table,
    measured,
    publish_performance,
)
from benchmarks.performance.rasterizer import load_scene
from gsplatloc.scene import SceneOptions, read_scene

ONCE = Protocol(rounds=1)


def test_a_map_and_random_gaussians_are_rendered_by_every_case(room_map: Path) -> None:
    arguments = PerformanceArguments(("rasterizer",), ("cube-100",), room_map, threads=1, rounds=1)
    figures = measured(arguments)["figures"]
    assert len(figures) == 2 * 2 * 5
    assert all(row["median_ms"] > 0 for row in figures.values())


def test_a_query_is_timed_stage_by_stage(room_map: Path) -> None:
    laps = {
        name.rpartition(": ")[2]: row for name, row in measure([command.query_probe(room_map)], ONCE).items()
    }
    assert set(laps) == {"features", "initial", "lm", command.QUERY}
    parts = sum(laps[name].median_ms for name in ("features", "initial", "lm"))
    assert parts <= laps[command.QUERY].median_ms


def test_an_iteration_that_changes_nothing_is_timed_with_its_parts(tmp_path: Path) -> None:
    trainer = training.static_trainer(200, load_scene("cube-200", 64, 48).camera, tmp_path)
    before = trainer.gaussians.means.detach().clone()
    figures = measure([trainer.probe("cube"), training.loss_probe(32, 24), training.adam_probe(50)], ONCE)
    assert {"cube: iteration", "cube: Adam", "cube: rasterizer, backward"} <= set(figures)
    assert bool((trainer.gaussians.means == before).all())


@pytest.mark.parametrize("kind", training.KINDS, ids=lambda kind: kind.label)
def test_iterations_of_one_kind_never_end(kind: training.Kind) -> None:
    options = training.options_of(kind)
    assert options.stopping.early_stop == 0 and options.schedule.holdout == 0
    assert options.descriptors.descriptors == kind.descriptors


def test_iterations_of_a_real_scene_are_timed(
    room_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_WARM_UP", 2)
    kind = training.Kind("features", pixels=5_000, gaussians=500, descriptors="distilled")
    with training.SceneTraining(read_scene(room_scene, SceneOptions()), tmp_path, kind) as probe:
        figures = measure([probe], ONCE)
    assert any(name.endswith("feature loss") for name in figures)


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
