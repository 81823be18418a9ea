"""Two localizations of the same images: paired by name, failed ones counted, the changed ones named."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gsplatloc.arguments.comparison import queries_file
from gsplatloc.cli.compare import path_labels
from gsplatloc.localization.evaluation import QueryResult
from gsplatloc.localization.io.json_lines import Outcome, read_outcomes
from gsplatloc.localization.io.results import write_queries
from gsplatloc.localization.result import Localization, PoseEstimate, Status
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.visualization.comparison import compare, comparison_lines, sign_test, write_comparison

LABELS = ("old", "new")


def outcome(error_m: float | None, status: Status = Status.OK) -> Outcome:
    """A camera `error_m` beside its true place; None: a failed query."""
    if error_m is None:
        return Outcome(Status.NO_CONSENSUS, None, math.inf, math.inf, 90.0)
    pose = torch.eye(4, dtype=torch.float64)
    pose[0, 3] = error_m
    return Outcome(status, pose, error_m, 0.0, 50.0)


def test_images_are_paired_by_name_and_the_most_changed_come_first() -> None:
    first = {"a": outcome(0.01), "b": outcome(0.02), "c": outcome(0.01), "gone": outcome(0.01)}
    second = {"c": outcome(None), "b": outcome(0.05), "a": outcome(0.011)}
    found = compare(first, second, LABELS)
    assert [pair.name for pair in found.pairs] == ["c", "b", "a"] and found.alone == (1, 0)
    lines = comparison_lines(found)
    assert lines[0] == "3 images in both results, 1 only in old"
    assert lines[-3].split(": ")[1] == "ok, 1 cm -> no_consensus"
    assert lines[-1].split(": ")[1] == "ok, 1 cm -> ok, 1.1 cm"


def test_figures_count_a_failed_query_in_every_recall() -> None:
    first = {str(i): outcome(0.004) for i in range(4)}
    second = first | {"0": outcome(None), "1": outcome(0.004, Status.UNVERIFIED)}
    header, old, new = comparison_lines(compare(first, second, LABELS))[1:4]
    column = dict(zip(header.split()[2:], zip(old.split()[2:], new.split()[2:])))  # behind "median cm"
    assert column["1cm_1deg"] == ("100.0%", "75.0%")
    assert column["failed"] == ("0", "1") and column["unverified"] == ("0", "1")


def test_wins_are_counted_with_failures_and_without_small_differences() -> None:
    first = {"a": outcome(0.01), "b": outcome(None), "c": outcome(0.01), "d": outcome(None)}
    second = {"a": outcome(0.0101), "b": outcome(0.5), "c": outcome(0.02), "d": outcome(None)}
    found = compare(first, second, LABELS)
    assert {pair.name: pair.change for pair in found.pairs} == {"a": 0, "b": 1, "c": -1, "d": 0}


@pytest.mark.parametrize(("better", "worse", "p"), [(0, 0, 1.0), (5, 5, 1.0), (10, 0, 2 / 1024), (1, 0, 1.0)])
def test_sign_test_is_the_binomial_one(better: int, worse: int, p: float) -> None:
    assert sign_test(better, worse) == pytest.approx(p)


def test_without_ground_truth_the_distance_of_the_poses_is_told(tmp_path: Path) -> None:
    def unknown(error_m: float) -> Outcome:
        return replace(outcome(error_m), translation_error_m=None, rotation_error_deg=None)

    found = compare({"a": unknown(0.0)}, {"a": unknown(0.03)}, LABELS)
    text = "\n".join(comparison_lines(found))
    assert "median distance between the poses 3 cm" in text and "3 cm and 0° away" in text
    write_comparison(tmp_path / "page.html", found)
    page = (tmp_path / "page.html").read_text()
    assert "3 cm" in page and "position error" not in page


def test_lengths_of_an_arbitrary_scale_are_units(tmp_path: Path) -> None:
    found = compare({"a": outcome(0.01)}, {"a": outcome(0.05)}, LABELS, metric=False)
    lines = comparison_lines(found)
    assert lines[-1] == "  a: ok, 0.01 units -> ok, 0.05 units" and "5cm_5deg" not in lines[1]
    write_comparison(tmp_path / "page.html", found)
    page = (tmp_path / "page.html").read_text()
    assert "position error, units" in page and " cm<" not in page


def test_results_of_other_images_are_one_error() -> None:
    with pytest.raises(GSplatLocError, match="none in common"):
        compare({"a": outcome(0.0)}, {"b": outcome(0.0)}, LABELS)


def test_outcomes_are_read_from_the_results_of_a_map(tmp_path: Path) -> None:
    truth = torch.eye(4, dtype=torch.float64)
    camera = Camera(64, 48, 60.0, 60.0, 32.0, 24.0)
    estimate = PoseEstimate(Status.OK, camera, truth, elapsed_ms=4.0)
    failed = PoseEstimate(Status.NO_CONSENSUS, camera)
    results = [
        QueryResult("found", Localization({"initial": estimate}), truth),
        QueryResult("failed", Localization({"initial": failed}), truth),
        QueryResult("unknown", Localization({"initial": estimate})),
    ]
    folder = tmp_path / "localization"
    folder.mkdir()
    write_queries(folder, results, ("initial",))
    assert queries_file(tmp_path) == queries_file(folder)
    found = read_outcomes(queries_file(tmp_path))
    assert found["found"].translation_error_m == 0.0 and found["found"].ms == 4.0
    assert found["failed"].translation_error_m == math.inf and found["failed"].cam_from_world is None
    assert found["unknown"].translation_error_m is None
    with pytest.raises(GSplatLocError, match="localize again"):
        queries_file(tmp_path / "other")


def test_page_lists_every_image_with_escaped_names(tmp_path: Path) -> None:
    found = compare(
        {"<b>": outcome(0.01), "c": outcome(0.1)}, {"<b>": outcome(None), "c": outcome(0.2)}, LABELS
    )
    write_comparison(tmp_path / "page.html", found)
    page = (tmp_path / "page.html").read_text()
    assert "&lt;b&gt;" in page and "<td><b>" not in page
    assert page.count("class='queries sortable'") == 2 and "no_consensus" in page


def test_errors_of_metres_have_no_exponent(tmp_path: Path) -> None:
    found = compare({"a": outcome(12.3)}, {"a": outcome(0.5)}, LABELS)
    write_comparison(tmp_path / "page.html", found)
    for text in ("\n".join(comparison_lines(found)), (tmp_path / "page.html").read_text()):
        assert "ok, 1230 cm" in text and "e+" not in text


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("maps/a/localization", "maps/b/localization", ("a/localization", "b/localization")),
        ("room", "room/queries", ("room", "room/queries")),
        ("room", "room", ("room", "room")),
    ],
)
def test_runs_are_named_by_what_differs_in_their_paths(
    first: str, second: str, expected: tuple[str, str]
) -> None:
    assert path_labels(Path(first), Path(second)) == expected
