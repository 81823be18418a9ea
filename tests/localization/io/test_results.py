"""metrics.json, per_query.csv and the printed table, as scripts and people read them."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gsplatloc.localization.evaluation import QueryResult
from gsplatloc.localization.io.poses import read_poses
from gsplatloc.localization.io.results import summary_lines, write_results
from gsplatloc.localization.result import Localization, PoseEstimate, Status
from gsplatloc.scene.cameras import Camera

CAMERA = Camera(64, 48, 60.0, 60.0, 32.0, 24.0)
TRUTH = torch.eye(4, dtype=torch.float64)
STAGES = ("initial", "lm")


def estimate(error_m: float, accepted: bool = True) -> PoseEstimate:
    pose = TRUTH.clone()
    pose[0, 3] = error_m
    return PoseEstimate(Status.OK, CAMERA, pose, inliers=7, elapsed_ms=5.0, accepted=accepted)


@pytest.fixture
def results() -> list[QueryResult]:
    """A refined query, one whose refinement was rejected, and one that failed."""
    failed = PoseEstimate(Status.NO_CONSENSUS, CAMERA)
    return [
        QueryResult("a.png", Localization({"initial": estimate(0.02), "lm": estimate(0.01)}), TRUTH),
        QueryResult("b.png", Localization({"initial": estimate(0.04), "lm": estimate(0.04, False)}), TRUTH),
        QueryResult("c.png", Localization({"initial": failed}), TRUTH),
    ]


def test_the_first_stage_is_also_listed_under_its_former_name(
    results: list[QueryResult], tmp_path: Path
) -> None:
    write_results(tmp_path, "room", results, 10, STAGES)
    stages = json.loads((tmp_path / "metrics.json").read_text())["stages"]
    assert list(stages) == ["initial", "lm", "prior"]
    assert stages["prior"] == stages["initial"]
    assert stages["lm"]["accepted"] == 1 and stages["initial"]["accepted"] == 2


def test_the_returned_figures_and_the_table_have_every_stage_once(
    results: list[QueryResult], tmp_path: Path
) -> None:
    figures = write_results(tmp_path, "room", results, 10, STAGES)
    assert tuple(figures["stages"]) == STAGES
    assert [line.split()[0] for line in summary_lines(figures)[3:]] == ["initial", "lm", "final"]


def test_the_table_says_why_queries_failed_and_what_would_help(
    results: list[QueryResult], tmp_path: Path
) -> None:
    rejected = replace(results[1], localization=replace(results[1].localization, verified=False))
    figures = write_results(tmp_path, "room", [results[0], rejected, results[2]], 10, STAGES)
    assert figures["statuses"] == {"ok": 1, "unverified": 1, "no_consensus": 1}
    reasons = summary_lines(figures)[1:3]
    assert reasons[0].startswith("1 unverified: the image does not look like the map")
    assert reasons[1].startswith("1 no_consensus: its matches agree on no pose: check")


def test_a_row_has_the_status_and_the_decision_of_every_stage(
    results: list[QueryResult], tmp_path: Path
) -> None:
    write_results(tmp_path, "room", results, 10, STAGES)
    with (tmp_path / "per_query.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["a.png", "b.png", "c.png"]
    assert [row["lm_accepted"] for row in rows] == ["true", "false", ""]
    assert [row["lm_status"] for row in rows] == ["ok", "ok", "skipped"]
    assert [row["lm_translation_error_m"] for row in rows] == ["0.010000", "0.040000", "inf"]
    assert rows[0]["initial_inliers"] == "7"


def test_a_failed_query_has_no_pose(results: list[QueryResult], tmp_path: Path) -> None:
    write_results(tmp_path, "room", results, 10, STAGES)
    assert list(read_poses(tmp_path / "poses.txt")) == ["a.png", "b.png"]
