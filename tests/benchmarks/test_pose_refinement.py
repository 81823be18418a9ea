"""The benchmark of one-shot refinement: coarse poses of exactly the stated error, a row per variant."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.pose_refinement import (
    NOISE,
    Record,
    RefinementArguments,
    caption,
    line,
    moved,
    noisy_queries,
    table,
    variants,
    views_to_refine,
)
from gsplatloc.localization.result import pose_errors
from gsplatloc.scene.cameras import Camera, View
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json

TRUTH = se3.se3_exp(torch.tensor([0.3, -0.2, 0.5, 0.1, -0.3, 0.2], dtype=torch.float64))
VIEWS = [
    View(name, Camera(8, 6, 8.0, 8.0, 4.0, 3.0), TRUTH, Path(), lambda: np.zeros((6, 8, 3), np.uint8))
    for name in ("a.png", "b.png")
]


@pytest.mark.parametrize(("centimetres", "degrees"), NOISE.values())
def test_poses_are_off_by_exactly_what_is_stated(centimetres: float, degrees: float) -> None:
    pose = moved(TRUTH, centimetres, degrees, torch.Generator().manual_seed(0))
    translation_m, rotation_deg = pose_errors(pose, TRUTH)
    assert 100 * translation_m == pytest.approx(centimetres)
    assert rotation_deg == pytest.approx(degrees)


def test_a_view_has_the_same_coarse_pose_in_every_selection() -> None:
    both, one = noisy_queries(VIEWS, "20cm_10deg"), noisy_queries(VIEWS[1:], "20cm_10deg")
    assert both[1].cam_from_world is not None and one[0].cam_from_world is not None
    assert torch.equal(both[1].cam_from_world, one[0].cam_from_world)
    assert both[0].cam_from_world is not None
    assert not torch.allclose(both[0].cam_from_world, both[1].cam_from_world)


def test_variants_have_names_of_their_own_and_the_network_needs_one() -> None:
    names = [variant.name for variant in variants(has_network=True)]
    assert len(set(names)) == len(names)
    assert set(names) - {variant.name for variant in variants(has_network=False)} == {"mutual, 2 rounds, act"}


@pytest.fixture
def map_folder(tmp_path: Path) -> Path:
    """As much of a map as a record looks at."""
    splats = tmp_path / "map" / "point_cloud" / "iteration_1" / "point_cloud.ply"
    splats.parent.mkdir(parents=True)
    splats.write_bytes(b"splats")
    return tmp_path / "map"


VARIANT = variants(has_network=False)[0]
FIGURES = {
    "initial": "20cm_10deg", "coarse_median_m": 0.2, "coarse_median_deg": 10.0, "variant": VARIANT.name,
    "options": asdict(VARIANT.options), "stages": VARIANT.stages, "median_translation_m": 0.005,
    "median_rotation_deg": 0.15, "median_ms": 210.0, "count": 60, "improved": 60,
    "recall": {"5cm_5deg": 1.0, "2cm_2deg": 0.9, "1cm_1deg": 0.8},
}  # fmt: skip


def test_what_was_measured_is_not_measured_again(map_folder: Path, tmp_path: Path) -> None:
    arguments = RefinementArguments(map_folder, output=tmp_path / "figures.json")
    Record(arguments).add(FIGURES, {})
    later = Record(arguments)
    assert not later.lacks("20cm_10deg", VARIANT, 60)
    assert later.lacks("20cm_10deg", VARIANT, 12) and later.lacks("5cm_2deg", VARIANT, 60)
    other = replace(VARIANT, options=replace(VARIANT.options, max_side=400))
    assert later.lacks("20cm_10deg", other, 60)
    assert Record(replace(arguments, again=True)).lacks("20cm_10deg", VARIANT, 60)


def test_figures_of_another_map_are_not_kept(map_folder: Path, tmp_path: Path) -> None:
    arguments = RefinementArguments(map_folder, output=tmp_path / "figures.json")
    Record(arguments).add(FIGURES, {})
    (map_folder / "point_cloud/iteration_1/point_cloud.ply").write_bytes(b"others")
    assert not Record(arguments).rows


def test_times_are_of_timed_runs_only(map_folder: Path, tmp_path: Path) -> None:
    arguments = RefinementArguments(map_folder, output=tmp_path / "figures.json")
    timed = replace(arguments, timed=True)
    Record(arguments).add(FIGURES, {})
    assert Record(timed).lacks("20cm_10deg", VARIANT, 60)
    Record(timed).add(FIGURES, {})
    assert not Record(timed).lacks("20cm_10deg", VARIANT, 60)
    assert [found["median_ms"] for found in Record(arguments).rows.values()] == [210.0]


def test_the_caption_tells_what_was_timed() -> None:
    machine = {"commit": "0123456789", "threads": 2, "name": "CPU"}
    rows = [{"machine": machine, "median_ms": None}]
    assert caption({"rows": rows}) == "Accuracy measured at commit 0123456. Times have not been measured."
    timed = {"machine": {**machine, "commit": "abcdefghij"}, "median_ms": 1.0}
    assert "on 2 cores of CPU, commit abcdefg;" in caption({"rows": [*rows, timed]})


def test_rows_are_in_the_order_of_errors_and_variants(map_folder: Path, tmp_path: Path) -> None:
    record = Record(RefinementArguments(map_folder, output=tmp_path / "figures.json"))
    for coarse in ("retrieval", "40cm_15deg", "5cm_2deg"):
        record.add({**FIGURES, "initial": coarse}, {})
    found = [row["initial"] for row in read_json(tmp_path / "figures.json")["rows"]]
    assert found == ["5cm_2deg", "40cm_15deg", "retrieval"]


def test_an_unknown_error_is_one_line() -> None:
    with pytest.raises(GSplatLocError, match="see --coarse"):
        views_to_refine(RefinementArguments(Path("map"), coarse=("1mm",)))


def test_a_row_is_a_line_of_a_table() -> None:
    text = line(FIGURES)
    assert table([FIGURES]).splitlines()[2] == text
    assert text.count("|") == 10
    assert "0.500 cm / 0.150°" in text and "100.0 %" in text and text.endswith("| 210 |")
    assert line({**FIGURES, "median_ms": None}).endswith("|  |")
