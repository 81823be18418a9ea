"""metrics.json, per_query.csv and the printed table, as scripts and people read them."""

import csv
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from gsplatloc.localization.evaluation import QueryResult
from gsplatloc.localization.io import results as results_module
from gsplatloc.localization.io.json_lines import read_json_lines
from gsplatloc.localization.io.poses import read_poses
from gsplatloc.localization.io.results import (
    localize_queries,
    query_lines,
    summary_lines,
    write_queries,
    write_results,
)
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.queries import QueryImage
from gsplatloc.localization.result import Localization, PoseEstimate, Status
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils.errors import GSplatLocError

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


def test_lengths_in_a_map_of_photos_alone_are_not_called_centimetres(
    results: list[QueryResult], tmp_path: Path
) -> None:
    figures = write_results(tmp_path, "room", results, 10, STAGES, metric=False)
    assert json.loads((tmp_path / "metrics.json").read_text())["metric"] is False
    stated = replace(estimate(0.01), covariance=1e-4 * torch.eye(6, dtype=torch.float64))
    query = QueryResult("a.png", Localization({"initial": stated}))
    said = "\n".join([*summary_lines(figures), *query_lines([query], metric=False)])
    assert "± 0.017 units 0.99°" in said and "units     deg" in said and "cm" not in said
    assert query_lines([query])[0].endswith("± 1.7 cm 0.99°")


def test_without_truth_the_times_of_the_parts_are_on_one_line(
    results: list[QueryResult], tmp_path: Path
) -> None:
    found = [replace(result, truth=None) for result in results[:1]]
    lines = summary_lines(write_results(tmp_path, "photos", found, 10, STAGES))
    assert lines[0].startswith("photos: 1 query, 0 failed")
    assert lines[1] == "time per query, median: 10 ms (features 0 ms, initial 5 ms, lm 5 ms)"


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


class OneStage(Localizer):
    """Finds every pose at once; a query is stopped where `fails` says so."""

    def __init__(self, fails: BaseException | None = None, at: int = -1) -> None:
        self.fails, self.at, self.calls = fails, at, 0

    def localize(self, *_: object) -> Localization:
        self.calls += 1
        if self.fails is not None and self.calls == self.at:
            raise self.fails
        return Localization({"initial": estimate(0.01)})


def photos(count: int, unreadable: int = -1) -> list[QueryImage]:
    def load(index: int) -> np.ndarray:
        if index == unreadable:
            raise GSplatLocError(f"expected an image at {index}.png, found one cut short: restore it")
        return np.zeros((48, 64, 3), np.uint8)

    return [QueryImage(f"{i}.png", partial(load, i), lambda: CAMERA, TRUTH) for i in range(count)]


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "per_query.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_an_unreadable_photo_is_a_failed_query_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = localize_queries(OneStage(), photos(3, unreadable=1), quiet=True)
    figures = write_results(tmp_path, "room", results, 10, STAGES)
    assert (figures["count"], figures["failed"]) == (3, 1)
    assert figures["final"]["recall"]["5cm_5deg"] == pytest.approx(2 / 3)
    rows = rows_of(tmp_path)
    assert [row["status"] for row in rows] == ["ok", "unreadable", "ok"]
    assert "cut short" in rows[1]["reason"] and rows[0]["reason"] == ""
    assert list(read_poses(tmp_path / "poses.txt")) == ["0.png", "2.png"]
    assert "1.png: counted as failed: expected an image" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a bug"), GSplatLocError("disk full")])
def test_what_was_localized_before_a_run_ends_is_kept(
    tmp_path: Path, error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("metrics.json", "report.html"):
        (tmp_path / name).write_text("of an earlier run")
    save = partial(write_queries, tmp_path, stages=STAGES)
    with pytest.raises(type(error)):
        localize_queries(OneStage(error, at=3), photos(5), quiet=True, save=save)
    assert [row["name"] for row in rows_of(tmp_path)] == ["0.png", "1.png"]
    assert list(read_poses(tmp_path / "poses.txt")) == ["0.png", "1.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["per_query.csv", "poses.txt", "queries.jsonl"]
    assert "the results of 2 of 5 queries were saved" in capsys.readouterr().err


def test_results_are_saved_at_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed run has lost what it localized since the last interval."""
    monkeypatch.setattr(results_module, "_SAVE_INTERVAL_S", 0.0)
    saved = []
    localize_queries(OneStage(), photos(3), quiet=True, save=lambda results: saved.append(len(results)))
    assert saved == [1, 2, 3]


def test_a_run_that_is_stopped_before_its_first_query_keeps_the_results_of_the_earlier_run(
    tmp_path: Path,
) -> None:
    (tmp_path / "metrics.json").write_text("of an earlier run")
    save = partial(write_queries, tmp_path, stages=STAGES)
    with pytest.raises(KeyboardInterrupt):
        localize_queries(OneStage(KeyboardInterrupt(), at=1), photos(2), quiet=True, save=save)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_poses_are_read_back_from_json_lines(results: list[QueryResult], tmp_path: Path) -> None:
    write_queries(tmp_path, results, STAGES)
    found, second = read_json_lines(tmp_path / "queries.jsonl")
    final = results[0].localization.final
    assert (found.name, second.name, found.status, found.camera) == ("a.png", "b.png", Status.OK, CAMERA)
    assert found.translation_error_m == pytest.approx(0.01)
    assert torch.equal(found.cam_from_world, final.pose())


@pytest.mark.parametrize("text", ["{", "[]\n", '{"cam_from_world": [[1]], "name": "a"}\n', "\xff"])
def test_damaged_json_lines_are_one_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "queries.jsonl").write_text(text, encoding="latin-1")
    with pytest.raises(GSplatLocError, match="localize again"):
        read_json_lines(tmp_path / "queries.jsonl")


def test_json_lines_hold_the_pose_of_each_stage(results: list[QueryResult], tmp_path: Path) -> None:
    write_queries(tmp_path, results, STAGES)
    first, _ = read_json_lines(tmp_path / "queries.jsonl")
    assert {name: pose[0, 3].item() for name, pose in first.stages.items()} == {"initial": 0.02, "lm": 0.01}
    failed = json.loads((tmp_path / "queries.jsonl").read_text().splitlines()[2])
    assert failed["stages"]["initial"]["cam_from_world"] is None


def test_json_lines_without_stages_are_read(results: list[QueryResult], tmp_path: Path) -> None:
    """As they were written before stages were."""
    write_queries(tmp_path, results, STAGES)
    lines = [json.loads(line) for line in (tmp_path / "queries.jsonl").read_text().splitlines()]
    for line in lines:
        del line["stages"]
    (tmp_path / "queries.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert [query.stages for query in read_json_lines(tmp_path / "queries.jsonl")] == [{}, {}]
