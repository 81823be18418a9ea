"""The tables and plots of the accuracy benchmark."""

from pathlib import Path
from typing import Any

import cv2
import pytest

from benchmarks.accuracy.report import comparison_table, map_table, publish_accuracy

RECALL = {"10cm_5deg": 1.0, "5cm_5deg": 1.0, "2cm_2deg": 0.5, "1cm_1deg": 0.5}


def figures(error: float | None) -> dict[str, Any]:
    return {
        "median_translation_m": error, "median_rotation_deg": error and 0.1, "recall": RECALL,
        "failed": 1, "median_ms": 40.0, "accepted": 1,
    }  # fmt: skip


def scene(metric: bool = True, error: float | None = 0.004) -> dict[str, Any]:
    bins = [{"count": 2, "predicted_translation_m": 0.004, "actual_translation_m": 0.005,
             "predicted_rotation_deg": 0.1, "actual_rotation_deg": 0.2}]  # fmt: skip
    chain = {
        "chain": "initial+lm", "count": 2, "failed": 1, "total_median_ms": 120.0, "features_median_ms": 20.0,
        "map_bytes": 18e6, "stages": {"initial": figures(0.005), "lm": figures(error)}, 
        "final": figures(error), "degraded": {"lm": {"at_all": 0.25, "clearly": 0.0}},
        "calibration": {"initial": bins, "lm": bins},
        "errors_m": {"initial": [0.005, None], "lm": [0.004, None]},
        "stated_m": {"initial": [0.004, None], "lm": [0.003, None]},
    }  # fmt: skip
    return {
        "scene": "room", "command": "python -m benchmarks accuracy", "commit": "0123456789",
        "machine": "2 threads on CPU", "metric": metric, "extent": 2.0, "decode_median_ms": 5.0,
        "mapping": {"seconds": 60.0, "peak_bytes": 2**30, "commit": "abcdefghij", "psnr": 27.0,
                    "depth_error_m": None, "depth_within_2": None, "landmark_bytes": 3e6, "bytes": 55e6,
                    "gaussians": 1000},
        "chains": [chain],
        "ablation": [{"label": "default", "bytes": 9000, "ms": 80.0, **figures(0.005)}],
        "rejection": {"photos": 64, "accepted": 0, "accepted_unknown_focal": 0},
        "baselines": {"mutual": {**figures(0.006), "count": 2, "total_median_ms": 900.0,
                                 "map_bytes": 83_000_000, "errors": [[0.006, 0.2], [None, None]]}},
    }  # fmt: skip


def test_a_row_has_errors_recalls_time_and_the_map_that_its_stages_read() -> None:
    text = comparison_table([scene()])
    expected = (
        "**ours, initial + lm** | 0.400 cm / 0.100° | 100.0 % | 50.0 % | 50.0 % | 1/2 | 120 | 18.0 MB |"
    )
    assert expected in text


def test_initial_poses_are_stated_with_the_time_of_features() -> None:
    expected = "**ours, initial** | 0.500 cm / 0.100° | 100.0 % | 50.0 % | 50.0 % | 1/2 | 60 | 3.0 MB |"
    assert expected in comparison_table([scene()])


@pytest.mark.parametrize(
    ("depth", "text"),
    [
        ({}, "–"),
        ({"depth_error_m": 0.0169}, "1.7 cm"),
        ({"depth_error_m": 0.0169, "depth_within_2": 0.625}, "1.7 cm, 62.5 % within 2 %"),
    ],
)
def test_depth_errors_are_stated_where_they_were_measured(depth: dict[str, Any], text: str) -> None:
    found = scene()
    found["mapping"] |= depth
    assert f"| abcdefg | 27.0 dB | {text} |" in map_table([found])


def test_without_metres_errors_are_relative_and_recalls_left_out() -> None:
    assert "**ours, initial + lm** | 0.2000 % / 0.100° | – | – | – |" in comparison_table(
        [scene(metric=False)]
    )


def test_a_median_of_failures_is_stated_as_failed() -> None:
    assert "**ours, initial + lm** | failed |" in comparison_table([scene(error=None)])


@pytest.mark.parametrize("metric", [True, False])
def test_pages_get_tables_and_plots(pages: Path, metric: bool) -> None:
    publish_accuracy([scene(metric)], pages)
    text = (pages / "docs" / "page.md").read_text()
    assert text.startswith("before\n") and text.endswith("after\n")
    assert "with 2 threads on CPU, commit 0123456." in text
    assert text.count("| whole map |") == 1
    for name in ("accuracy-cdf", "accuracy-size", "accuracy-time", "accuracy-calibration"):
        assert f"images/{name}.png" in text
        assert cv2.imread(str(pages / "docs" / "images" / f"{name}.png")) is not None
