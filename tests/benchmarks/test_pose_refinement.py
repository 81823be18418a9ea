"""The benchmark of one-shot refinement: coarse poses of exactly the stated error, a row per variant."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.pose_refinement import (
    NOISE,
    RefinementArguments,
    line,
    moved,
    noisy_queries,
    table,
    variants,
    views_to_refine,
)
from localization.result import pose_errors
from scene.cameras import Camera, View
from utils import se3
from utils.errors import GSplatLocError

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


def test_an_unknown_error_is_one_line() -> None:
    with pytest.raises(GSplatLocError, match="see --coarse"):
        views_to_refine(RefinementArguments(Path("map"), coarse=("1mm",)))


def test_a_row_is_a_line_of_a_table() -> None:
    figures = {
        "coarse": "20cm_10deg", "coarse_median_m": 0.2, "coarse_median_deg": 10.0, "variant": "mutual",
        "median_translation_m": 0.005, "median_rotation_deg": 0.15, "median_ms": 210.0, "count": 60,
        "improved": 60, "recall": {"5cm_5deg": 1.0, "2cm_2deg": 0.9, "1cm_1deg": 0.8},
    }  # fmt: skip
    text = line(figures)
    assert table([figures]).splitlines()[2] == text
    assert text.count("|") == 9
    assert "0.500 cm / 0.150°" in text and "100.0 %" in text
