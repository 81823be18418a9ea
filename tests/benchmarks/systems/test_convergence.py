"""Poses at a chosen overlap, the tables and plot of the errors from there, and a small real run."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.harness.results import read_rows
from benchmarks.systems import convergence
from benchmarks.systems.convergence import publish_convergence, share, succeeded
from benchmarks.systems.sampled_poses import HALF_WIDTH, LEVELS, PoseSampler
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from tests.localization.rendered_room import make_gaussians

CAMERA = Camera(160, 120, 131.0, 132.0, 79.0, 61.0)
TRUTH = se3.se3_exp(torch.tensor([0.1, -0.05, 0.4, 0.05, -0.1, 0.03], dtype=torch.float64))


@pytest.fixture(scope="module")
def gaussians() -> Gaussians:
    return make_gaussians()


@pytest.fixture(scope="module")
def sampler(gaussians: Gaussians) -> PoseSampler:
    return PoseSampler(gaussians, CAMERA, TRUTH, seed=0)


def test_a_view_overlaps_wholly_with_itself(sampler: PoseSampler) -> None:
    assert sampler.overlap(TRUTH) == 1.0


def test_a_view_away_from_everything_overlaps_with_nothing(sampler: PoseSampler) -> None:
    away = se3.se3_exp(torch.tensor([0, 0, 0, 0, 3.14, 0], dtype=torch.float64)) @ TRUTH
    assert sampler.overlap(away) == 0.0


def test_overlap_falls_as_the_camera_turns(sampler: PoseSampler) -> None:
    turns = (0.0, 0.1, 0.3, 0.6)
    poses = [se3.se3_exp(torch.tensor([0, 0, 0, 0, a, 0], dtype=torch.float64)) @ TRUTH for a in turns]
    overlaps = [sampler.overlap(pose) for pose in poses]
    assert overlaps == sorted(overlaps, reverse=True)
    assert len(set(overlaps)) == len(overlaps)


def test_poses_lie_on_their_levels_and_repeat(gaussians: Gaussians) -> None:
    first, again = (list(PoseSampler(gaussians, CAMERA, TRUTH, seed=3).poses()) for _ in range(2))
    assert len(first) >= 5
    for sampled in first:
        assert abs(sampled.overlap - LEVELS[sampled.level]) <= HALF_WIDTH
    assert [sampled.pose.tolist() for sampled in first] == [sampled.pose.tolist() for sampled in again]


def test_levels_are_those_of_the_paper() -> None:
    assert len(LEVELS) == 10
    assert (LEVELS[0], LEVELS[-1]) == pytest.approx((0.05, 0.65))


def test_success_is_within_five_centimetres_and_five_degrees() -> None:
    errors = [(0.04, 4.0), (0.06, 1.0), (0.01, 6.0), (0.0, 0.0), (None, None)]
    assert [succeeded(error) for error in errors] == [True, False, False, True, False]
    assert share(errors) == 0.4 and share([]) is None


def test_the_first_images_of_any_number_are_far_apart() -> None:
    assert sorted(convergence.spread(60)) == list(range(60))
    assert sorted(convergence.spread(60)[:4]) == [0, 15, 30, 45]
    assert convergence.spread(1) == [0]


def row(method: str, part: str, errors: list[float], **facts: Any) -> dict[str, Any]:
    figures = {"error_m": errors, "error_deg": [0.03] * len(errors), "cpu_ms": [90.0] * len(errors)}
    place = {"scene": "room", "photo": "a", "commit": "0123456789", "machine": "1 thread on CPU"}
    return {"method": method, "part": part, **figures, **place, **facts}


def test_tables_have_success_per_level_errors_and_cost(pages: Path) -> None:
    levels = [level for level in range(1, 10) for _ in range(2)]
    views = {"mapping_views": 10, "virtual_views": [0, 60], "overlap": [0.4, 0.5]}
    rows = [
        row(convergence.FROM_LANDMARKS, "initial", [0.002]),
        row("gsloc", "poses", [0.002, 0.5] * 9, level=levels),
        row("gsloc, quaternion", "poses", [0.5], level=[9]),
        row("lm", "retrieval", [0.5, 0.002], **views),
        row("lm", "retrieval", [0.002, 0.002], **views | {"photo": "b"}),
    ]
    publish_convergence([*rows, *(found | {"scene": "kitchen"} for found in rows)], pages)
    text = (pages / "docs" / "page.md").read_text()
    halves = " | ".join(["50"] * 9)
    assert f"| gsloc | 1 | – | {halves} | 0.20 cm / 0.030° | 90 |" in text
    assert "| overlap of the retrieved view, median | 2 | 0.40 | 0.50 |" in text
    assert "| lm | 2 | 50 % | 100 % |" in text
    assert (pages / "docs" / "images" / "convergence.png").read_bytes().startswith(b"\x89PNG")


def run(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["convergence", *words.split()])
    convergence.main()


def test_an_unknown_method_is_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GSplatLocError, match="magic"):
        run(monkeypatch, "--methods magic")


def test_poses_around_an_image_and_a_retrieved_view_are_refined(
    room_map: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.systems.sampled_poses.LEVELS", LEVELS[-1:])
    results = tmp_path / "results.json"
    counts = "--queries 1 --retrieval-queries 1 --virtual-views 0 --methods lm --ablations"
    run(monkeypatch, f"--maps {room_map} {counts} --results {results} --no-publish")
    rows = read_rows(results)
    assert [found["part"] for found in rows] == ["initial", "poses", "retrieval"]
    assert rows[0]["error_m"][0] < 0.05 and rows[2]["overlap"][0] > 0.3
