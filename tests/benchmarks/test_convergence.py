"""Starts of a chosen overlap, and the tables of what was found from them."""

from typing import Any

import pytest
import torch

from benchmarks.convergence import ConvergenceArguments, checked_methods, spread
from benchmarks.convergence_record import Record, share, succeeded
from benchmarks.convergence_report import write_plot, write_tables
from benchmarks.convergence_starts import HALF_WIDTH, LEVELS, StartSampler
from benchmarks.machine import short_commit
from benchmarks.systems import commits_of
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json, write_json
from tests.localization.rendered_room import make_gaussians

CAMERA = Camera(160, 120, 131.0, 132.0, 79.0, 61.0)
TRUTH = se3.se3_exp(torch.tensor([0.1, -0.05, 0.4, 0.05, -0.1, 0.03], dtype=torch.float64))


@pytest.fixture(scope="module")
def gaussians() -> Gaussians:
    return make_gaussians()


@pytest.fixture(scope="module")
def sampler(gaussians: Gaussians) -> StartSampler:
    return StartSampler(gaussians, CAMERA, TRUTH, seed=0)


def test_a_view_overlaps_wholly_with_itself(sampler: StartSampler) -> None:
    assert sampler.overlap(TRUTH) == 1.0


def test_a_view_away_from_everything_overlaps_with_nothing(sampler: StartSampler) -> None:
    away = se3.se3_exp(torch.tensor([0, 0, 0, 0, 3.14, 0], dtype=torch.float64)) @ TRUTH
    assert sampler.overlap(away) == 0.0


def test_overlap_falls_as_the_camera_turns(sampler: StartSampler) -> None:
    turns = (0.0, 0.1, 0.3, 0.6)
    poses = [se3.se3_exp(torch.tensor([0, 0, 0, 0, a, 0], dtype=torch.float64)) @ TRUTH for a in turns]
    overlaps = [sampler.overlap(pose) for pose in poses]
    assert overlaps == sorted(overlaps, reverse=True)
    assert len(set(overlaps)) == len(overlaps)


def test_starts_lie_on_their_levels_and_repeat(gaussians: Gaussians) -> None:
    first, again = (list(StartSampler(gaussians, CAMERA, TRUTH, seed=3).starts()) for _ in range(2))
    assert len(first) >= 5
    for start in first:
        assert abs(start.overlap - LEVELS[start.level]) <= HALF_WIDTH
    assert [start.pose.tolist() for start in first] == [start.pose.tolist() for start in again]


def test_levels_are_those_of_the_paper() -> None:
    assert len(LEVELS) == 10
    assert (LEVELS[0], LEVELS[-1]) == pytest.approx((0.05, 0.65))


def test_success_is_within_five_centimetres_and_five_degrees() -> None:
    rows = [{"error_m": m, "error_deg": d} for m, d in ((0.04, 4.0), (0.06, 1.0), (0.01, 6.0), (0.0, 0.0))]
    assert [succeeded(row) for row in rows] == [True, False, False, True]
    assert share(rows) == 0.5
    assert not succeeded({"error_m": None, "error_deg": None})  # as JSON keeps the error of no pose
    assert share([]) is None


def test_the_first_photos_of_any_number_are_far_apart() -> None:
    assert sorted(spread(60)) == list(range(60))
    assert sorted(spread(60)[:4]) == [0, 15, 30, 45]
    assert spread(1) == [0]


def test_an_unknown_method_is_a_user_error() -> None:
    with pytest.raises(GSplatLocError, match="magic"):
        checked_methods(ConvergenceArguments(maps=(), methods=("magic",)))


FACTS = {"command": "x", "machine": {"commit": "abc"}}


def _row(**facts: Any) -> dict[str, Any]:
    found = {"photo": "a", "error_m": 0.002, "error_deg": 0.03, "ms": 100.0, "cpu_ms": 90.0}
    return found | facts


def _scene() -> dict[str, Any]:
    lost = {"error_m": 0.5}
    runs = [_row(method="gsloc", level=level, **extra) for level in range(1, 10) for extra in ({}, lost)]
    runs += [_row(method="gsloc, quaternion", level=9, **lost), _row(method="lm", level=9, photo="b")]
    retrieved = [
        _row(method="lm", mapping_views=10, virtual_views=count, overlap=overlap, error_m=error)
        for count, overlap, error in ((0, 0.4, 0.002), (0, 0.42, 0.5), (60, 0.5, 0.002), (60, 0.6, 0.002))
    ]
    return {
        "scene": "room", "settings": {"seed": 0}, "levels": list(LEVELS),
        "prior_runs": [_row()], "runs": runs, "retrieval_runs": retrieved,
    }  # fmt: skip


def test_a_table_tells_success_per_level_errors_and_cost() -> None:
    text = write_tables([_scene()])
    halves = " | ".join(["50"] * 9)
    assert f"| gsloc | 1 | – | {halves} | 0.20 cm / 0.030° | 90 |" in text
    assert "| overlap of the start, median | 1 | 0.41 | 0.55 |" in text
    assert "| lm | 1 | 50 % | 100 % |" in text


def test_what_was_measured_outlives_a_stop(tmp_path: Any) -> None:
    path = tmp_path / "found.json"
    Record(path, FACTS).scene("room", {"seed": 0}).add("runs", [_row(method="lm", level=3)])
    again = Record(path, FACTS, resume=True).scene("room", {"seed": 0})
    assert again.has("runs", photo="a", method="lm")
    assert not again.has("runs", photo="b", method="lm")
    assert not Record(path, FACTS).scene("room", {"seed": 0}).has("runs", photo="a")


def test_figures_of_other_settings_are_not_mixed_in(tmp_path: Any) -> None:
    path = tmp_path / "found.json"
    Record(path, FACTS).scene("room", {"seed": 0}).add("runs", [_row(method="lm", level=3)])
    with pytest.raises(GSplatLocError, match="--resume"):
        Record(path, FACTS, resume=True).scene("room", {"seed": 1})


def test_figures_of_unknown_settings_are_not_mixed_in(tmp_path: Any) -> None:
    path = tmp_path / "found.json"
    write_json(path, FACTS | {"scenes": [{"scene": "room", "runs": []}]})
    with pytest.raises(GSplatLocError, match="--resume"):
        Record(path, FACTS, resume=True).scene("room", {"seed": 0})


def test_rows_name_the_commit_that_they_were_measured_at(tmp_path: Any) -> None:
    path = tmp_path / "found.json"
    Record(path, FACTS).scene("room", {"seed": 0}).add("runs", [_row(method="lm", level=3)])
    later = FACTS | {"machine": {"commit": "def"}}
    Record(path, later, resume=True).scene("room", {"seed": 0}).add("runs", [_row(method="lm", level=4)])
    assert commits_of(read_json(path)) == ["abc", "def"]


def test_a_commit_says_whether_files_were_changed_after_it() -> None:
    assert short_commit("0123456789") == "0123456"
    assert short_commit("0123456789+changes") == "0123456 with changes"
    assert short_commit(None) == "unknown"


def test_the_plot_is_a_picture(tmp_path: Any) -> None:
    write_plot([_scene(), _scene()], tmp_path / "convergence.png")
    assert (tmp_path / "convergence.png").read_bytes().startswith(b"\x89PNG")
