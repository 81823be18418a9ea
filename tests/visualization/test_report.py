"""The report: one page that holds everything and says what the figures say."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gsplatloc.localization.evaluation import QueryResult, metrics
from gsplatloc.localization.result import Localization, PoseEstimate, Status
from gsplatloc.scene.cameras import Camera
from gsplatloc.visualization import plots
from gsplatloc.visualization.certainty import draw_results
from gsplatloc.visualization.report import QueryPicture, Report, write_report
from gsplatloc.visualization.style import SORTABLE

CAMERA = Camera(64, 48, 60.0, 60.0, 32.0, 24.0)


def results(errors_m: list[float]) -> list[QueryResult]:
    """Queries whose initial pose is off by 2 cm more than the final one."""
    made = []
    for index, error in enumerate(errors_m):
        stages = {}
        for stage, off in (("initial", error + 0.02), ("fine", error)):
            pose = torch.eye(4, dtype=torch.float64)
            pose[0, 3] = off
            stages[stage] = PoseEstimate(Status.OK, CAMERA, pose, 10, elapsed_ms=5.0)
        made.append(QueryResult(f"q{index}", Localization(stages), torch.eye(4, dtype=torch.float64)))
    return made


def write(path: Path, **changes) -> str:
    found = results([0.001, 0.004, 0.03])
    figures = metrics(changes.pop("scene", "room"), found, 4_200_000, ["initial", "fine"])
    write_report(path, Report(**({"metrics": figures, "results": found} | changes)))
    return path.read_text(encoding="utf-8")


def test_page_shows_the_median_in_centimetres(tmp_path: Path) -> None:
    page = write(tmp_path / "report.html")
    assert "<b>0.400 cm</b>" in page and "<b>66.7 %</b>" not in page
    assert re.search(r"<td>initial</td><td>2\.400 cm</td>", page)


def test_lengths_in_a_map_of_photos_alone_are_in_its_own_unit(tmp_path: Path) -> None:
    figures = {**metrics("room", results([0.004]), 10, ["initial", "fine"]), "metric": False}
    page = write(tmp_path / "report.html", metrics=figures, results=results([0.004]))
    assert "<b>0.00400 units</b>" in page and "<td>0.004 units</td>" in page and "error, units" in page
    assert not re.search(r"\d cm<", page)


def test_page_counts_failed_and_unverified_queries(tmp_path: Path) -> None:
    found = results([0.001, 0.004, 0.03])
    found[1] = replace(found[1], localization=replace(found[1].localization, verified=False))
    figures = metrics("room", found, 10, ["initial", "fine"])
    assert "3 queries, none failed, 1 unverified." in write(tmp_path / "report.html", metrics=figures)


def test_page_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = write(tmp_path / "report.html")
    sources = re.findall(r"""(?:src|href)=["']([^"']*)""", page)
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "url(http" not in page and "@import" not in page


def test_pictures_are_embedded_with_a_description(tmp_path: Path) -> None:
    blank = np.zeros((48, 64, 3), np.uint8)
    shown = QueryPicture("a<b", blank, blank, np.zeros((0, 2)), np.zeros(0, bool), 0.01, 0.1, kind="worst")
    page = write(tmp_path / "report.html", pictures=[shown])
    labels = re.findall(r'<img alt="worst query a&lt;b: ([^"]*)" src="data:image/jpeg;base64,', page)
    assert labels == ["query image", "map at the estimated pose", "difference"]
    assert "<b>a&lt;b</b> <i>worst</i> <span>1 cm   0.100°</span>" in page


def test_the_picture_of_a_query_without_a_pose_is_the_query_alone(tmp_path: Path) -> None:
    blank = np.zeros((48, 64, 3), np.uint8)
    lost = QueryPicture(
        "q", blank, None, np.zeros((0, 2)), np.zeros(0, bool), None, None, status="no_consensus"
    )
    page = write(tmp_path / "report.html", pictures=[lost])
    assert page.count("<img") == 1 and 'class="query no_consensus"' in page


def test_scene_names_are_escaped(tmp_path: Path) -> None:
    assert "<script>" not in write(tmp_path / "report.html", scene="<script>").replace(SORTABLE, "")


def without_truth() -> list[QueryResult]:
    """A verified query, a less certain one, an unverified one, and a failed one."""
    spread = torch.eye(6, dtype=torch.float64)
    made = []
    for name, variance in (("sure", 1e-6), ("unsure", 4e-4), ("unverified", 1e-6)):
        estimate = PoseEstimate(Status.OK, CAMERA, torch.eye(4).double(), 50, covariance=variance * spread)
        made.append(QueryResult(name, Localization({"initial": estimate}, verified=name != "unverified")))
    failed = PoseEstimate(Status.NO_CONSENSUS, CAMERA, inliers=11)
    return [*made, QueryResult("<lost>", Localization({"initial": failed}))]


def test_a_run_without_truth_shows_what_the_results_state(tmp_path: Path) -> None:
    found = without_truth()
    plan = draw_results(None, found)
    write_report(
        tmp_path / "report.html", Report(metrics("photos", found, 10, ["initial"]), found, plan=plan)
    )
    page = (tmp_path / "report.html").read_text()
    assert "<b>–</b>" not in page and "worst" not in page and "<svg" not in page
    assert "<b>2 of 4</b><span>verified" in page
    names = re.findall(r"<tr><td><a href='#query-(\d)'>([^<]*)</a>", page)
    assert names == [("0", "&lt;lost&gt;"), ("1", "unverified"), ("2", "unsure"), ("3", "sure")]
    assert (
        "no consensus</td><td class=minor>11</td>" in page
        and "<th class=minor>score" not in page
        and "its matches agree on no pose" in page
    )
    assert "3.5 cm" in page and 'alt="the map from above"' in page
    assert re.search(r"<b>1\.8\d* cm</b><span>stated position error, median of verified", page)


def test_a_run_with_truth_keeps_its_table_of_stages(tmp_path: Path) -> None:
    page = write(tmp_path / "report.html")
    assert page.index("<h2>Stages") < page.index("least certain first")


def test_error_curve_takes_the_colours_of_the_page() -> None:
    svg = plots.error_curves({"initial": [1.0, 2.0, float("inf")]}, "position error, cm", 3.0)
    assert svg.startswith("<svg") and "currentColor" in svg and "#010203" not in svg
    assert "position error, cm" in svg  # text stays text


def test_error_curve_is_the_same_every_time() -> None:
    first, second = (plots.error_curves({"a": [1.0]}, "x", 2.0) for _ in range(2))
    assert first == second


def test_training_curves_skip_a_line_that_was_cut_short(tmp_path: Path) -> None:
    entries = [{"kind": "train", "iteration": i, "loss": 1 / i, "psnr": 20.0 + i} for i in (1, 2, 3)]
    log = tmp_path / "training.jsonl"
    log.write_text("\n".join(json.dumps(entry) for entry in entries) + '\n{"kind": "tra')
    assert len(plots.read_log(log)) == 3
    assert "PSNR, dB" in (plots.training_curves(log) or "")


@pytest.mark.parametrize("text", ["", '{"kind": "train", "iteration": 1, "loss": 1, "psnr": null}\n'])
def test_a_log_with_nothing_to_show_has_no_curves(tmp_path: Path, text: str) -> None:
    (tmp_path / "training.jsonl").write_text(text)
    assert plots.training_curves(tmp_path / "training.jsonl") is None


def test_the_threshold_on_the_score_has_a_curve_where_scores_are_known(tmp_path: Path) -> None:
    label = "threshold on the verification score"
    assert label not in write(tmp_path / "report.html")
    wrong = results([0.001, 0.004, 0.3])
    assert label in write(tmp_path / "report.html", results=wrong, scores=[0.9, 0.8, 0.1])
    assert label not in write(tmp_path / "report.html", results=wrong, scores=[float("-inf")] * 3)


def test_a_threshold_that_cannot_be_wrong_has_no_curve(tmp_path: Path) -> None:
    label = "threshold on the verification score"
    assert label not in write(tmp_path / "report.html", scores=[0.9, 0.8, 0.1])


def test_page_lists_every_query_with_its_error_where_it_is_known(tmp_path: Path) -> None:
    page = write(tmp_path / "report.html")
    assert page.count("</a></td>") == 3 and "<td>0.4 cm</td>" in page and "rotation error" in page
    found = [replace(result, truth=None) for result in results([0.001, 0.004])]
    page = write(tmp_path / "report.html", results=found)
    assert page.count("</a></td>") == 2 and "<th>error</th>" not in page


def test_every_query_has_a_page_with_its_stages(tmp_path: Path) -> None:
    found = results([0.001, 0.004])
    stages = found[0].localization.stages
    refused = {"initial": stages["initial"], "fine": replace(stages["fine"], accepted=False)}
    found[0] = replace(found[0], localization=Localization(refused, verified=False, score=0.125))
    blank = np.zeros((48, 64, 3), np.uint8)
    shown = QueryPicture("q0", blank, blank, np.zeros((0, 2)), np.zeros(0, bool), 0.01, 0.1)
    page = write(tmp_path / "report.html", results=found, pictures=[shown])
    first, second = re.findall(r"<section class='page' id='query-\d'>.*?</section>", page, re.DOTALL)
    assert "<h2>q0</h2>" in first and "unverified, verification score 0.12, 10 ms in all" in first
    assert "not accepted: the pose before it" in first and "href='#picture-0'" in first
    assert "<td>initial</td><td>accepted</td><td>10</td>" in second and "<td>2.4 cm</td>" in second
    assert 'id="picture-0"' in page and "#picture" not in second and "focal length 60.0 px" in second


def test_every_failed_query_says_why(tmp_path: Path) -> None:
    found = results([0.001])
    failed = Localization({"initial": PoseEstimate(Status.UNREADABLE, CAMERA)}, verified=False)
    found.append(QueryResult("broken", failed, found[0].truth, reason="it ends <early>"))
    page = write(tmp_path / "report.html", results=found)
    assert "it ends &lt;early&gt;" in page
