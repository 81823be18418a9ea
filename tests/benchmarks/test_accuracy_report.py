"""The tables and plots of docs/results.md."""

from pathlib import Path
from typing import Any

import cv2
import pytest

from benchmarks.accuracy_report import BEGIN, END, tables, write_page
from gsplatloc.utils.io import write_json

RECALL = {"10cm_5deg": 1.0, "5cm_5deg": 1.0, "2cm_2deg": 0.5, "1cm_1deg": 0.5}


def figures(error: float | None) -> dict[str, Any]:
    return {
        "median_translation_m": error, "median_rotation_deg": error and 0.1, "recall": RECALL,
        "failed": 1, "median_ms": 40.0, "improved": 1,
    }  # fmt: skip


def result(metric: bool = True, error: float | None = 0.004) -> dict[str, Any]:
    bins = [{"count": 2, "stated_translation_m": 0.004, "found_translation_m": 0.005,
             "stated_rotation_deg": 0.1, "found_rotation_deg": 0.2}]  # fmt: skip
    queries = [
        {"name": "a", "stages": [[0.005, 0.2, 0.004, 0.1, 60.0], [0.004, 0.1, 0.003, 0.1, 40.0]]},
        {"name": "b", "stages": [[None, None, None, None, 30.0], [None, None, None, None, None]]},
    ]
    chain = {
        "chain": "initial+lm", "count": 2, "failed": 1, "total_median_ms": 120.0, "features_median_ms": 20.0,
        "stages": {"initial": figures(0.005), "lm": figures(error)}, "final": figures(error),
        "degraded": {"lm": {"at_all": 0.25, "clearly": 0.0}}, "calibration": {"initial": bins, "lm": bins},
        "queries": queries,
    }  # fmt: skip
    return {
        "scene": "room", "metric": metric, "extent": 2.0, "decode_median_ms": 5.0,
        "mapping": {"seconds": 60.0, "peak_bytes": 2**30, "held_out": {"psnr": 27.0}},
        "bytes": {"landmarks": 3e6, "initial+lm": 18e6, "everything": 55e6, "gaussians": 1000},
        "chains": [chain],
        "ablation": [{"label": "as it is", "bytes": 9000, "ms": 80.0, **figures(0.005)}],
        "rejection": {"photos": 64, "accepted": 0, "accepted_unknown_focal": 0},
        "baselines": {"mutual": {**figures(0.006), "count": 2, "total_median_ms": 900.0,
                                 "map_bytes": 83_000_000, "errors": [[0.006, 0.2], [None, None]]}},
    }  # fmt: skip


def test_the_map_of_lm_is_weighed_without_descriptors() -> None:
    text = tables([result()])
    assert (
        "| **ours, prior + lm** | 0.400 cm / 0.100° | 100.0 % | 50.0 % | 50.0 % | 1/2 | 120 | 18.0 MB |"
        in text
    )


@pytest.mark.parametrize(
    ("figures", "text"),
    [
        ({}, "–"),
        ({"depth_error_m": None}, "–"),
        ({"depth_error_m": 0.0169}, "1.7 cm"),
        ({"depth_error_m": 0.0169, "depth_within_2": 0.625}, "1.7 cm, 62.5 % within 2 %"),
    ],
)
def test_depth_is_told_as_far_as_a_run_measured_it(figures: dict[str, Any], text: str) -> None:
    found = result()
    found["mapping"]["held_out"] |= figures
    assert f"| 27.0 dB | {text} |" in tables([found])


def test_the_prior_costs_its_features_too() -> None:
    text = tables([result()])
    assert "| **ours, prior** | 0.500 cm / 0.100° | 100.0 % | 50.0 % | 50.0 % | 1/2 | 60 | 3.0 MB |" in text


def test_without_metres_errors_are_relative_and_recalls_left_out() -> None:
    assert "| room | **ours, prior + lm** | 0.2000 % / 0.100° | – | – | – |" in tables([result(metric=False)])


def test_a_median_of_failures_is_said_to_be_one() -> None:
    assert "| room | **ours, prior + lm** | failed |" in tables([result(error=None)])


@pytest.mark.parametrize("metric", [True, False])
def test_the_page_gets_tables_and_plots(tmp_path: Path, metric: bool) -> None:
    machine = {"commit": "0123456789", "cores": 2, "name": "a CPU", "threads": 2}
    write_json(
        tmp_path / "r.json",
        {"command": "python -m benchmarks.accuracy", "machine": machine, "results": [result(metric)]},
    )
    page = tmp_path / "results.md"
    page.write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    write_page(page, [tmp_path / "r.json"])
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n")
    assert "built on commit 0123456" in text
    names = ["accuracy-cdf", "accuracy-size", "accuracy-time", "accuracy-calibration"]
    for name in names:
        assert f"images/{name}.png" in text
        assert cv2.imread(str(tmp_path / "images" / f"{name}.png")) is not None


def test_the_last_file_counts_where_a_scene_is_in_several(tmp_path: Path) -> None:
    machine = {"commit": None, "cores": 2, "name": "a CPU", "threads": 2}
    for name, error in (("old", 0.009), ("new", 0.004)):
        content = {"command": name, "machine": machine, "results": [result(error=error)]}
        write_json(tmp_path / f"{name}.json", content)
    page = tmp_path / "results.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    write_page(page, [tmp_path / "old.json", tmp_path / "new.json"])
    assert "0.400 cm" in page.read_text() and "0.900 cm" not in page.read_text()
