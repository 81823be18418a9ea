"""Matches of localized queries in a file: each goes back to its own query."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gsplatloc.localization.evaluation import QueryResult
from gsplatloc.localization.io.results import write_queries, write_results
from gsplatloc.localization.io.saved_matches import FILE_NAME, read_localized
from gsplatloc.localization.result import Localization, Matches, PoseEstimate, Status
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils.errors import GSplatLocError

CAMERA = Camera(64, 48, 60.0, 60.0, 32.0, 24.0)
FAR = 4.5e6  # metres: coordinates of UTM need double precision


def result(name: str, count: int | None) -> QueryResult:
    """A query with `count` matches; a failed one for None."""
    if count is None:
        return QueryResult(name, Localization({"initial": PoseEstimate(Status.NO_CONSENSUS, CAMERA)}))
    numbers = np.arange(count, dtype=np.float64)
    points = np.stack([FAR + 0.001 * numbers, numbers, numbers], 1)
    matches = Matches(np.stack([numbers, numbers + count], 1), points, numbers % 2 == 0)
    estimate = PoseEstimate(Status.OK, CAMERA, torch.eye(4, dtype=torch.float64), count, matches=matches)
    return QueryResult(name, Localization({"initial": estimate}))


@pytest.mark.parametrize(
    "name", ["a\u2028b.png", "a\x85b.png", "a\nb.png", "a\x0bb.png", 'a"b', "\udce9.png"]
)
def test_any_name_is_read_back(tmp_path: Path, name: str) -> None:
    write_results(tmp_path, "room", [result(name, 3), result("c", 2)], 0, ("initial",))
    assert [query.name for query in read_localized(tmp_path)] == [name, "c"]


def test_each_query_gets_its_own_matches_back(tmp_path: Path) -> None:
    results = [result("a", 3), result("b", None), result("c", 0), result("d", 2)]
    write_results(tmp_path, "room", results, 0, ("initial",))
    found = {query.name: query for query in read_localized(tmp_path)}
    assert list(found) == ["a", "c", "d"]
    for name, written in (("a", results[0]), ("c", results[2]), ("d", results[3])):
        matches, expected = found[name].matches, written.localization.final.matches
        assert matches is not None and expected is not None
        np.testing.assert_array_equal(matches.points, expected.points)
        np.testing.assert_array_equal(matches.pixels, expected.pixels)
        np.testing.assert_array_equal(matches.inliers, expected.inliers)


def test_of_many_matches_some_are_kept_from_first_to_last(tmp_path: Path) -> None:
    write_results(tmp_path, "room", [result("a", 5000)], 0, ("initial",))
    (query,) = read_localized(tmp_path)
    assert query.matches is not None and len(query.matches) == 200
    assert query.matches.pixels[[0, -1], 0].tolist() == [0, 4999]


def test_without_queries_there_is_a_file_without_matches(tmp_path: Path) -> None:
    write_results(tmp_path, "room", [], 0, ("initial",))
    assert read_localized(tmp_path) == []


def test_matches_of_an_earlier_run_do_not_stay_beside_newer_queries(tmp_path: Path) -> None:
    write_results(tmp_path, "room", [result("a", 3)], 0, ("initial",))
    write_queries(tmp_path, [result("b", 3)], ("initial",))  # of a run that is stopped now
    (query,) = read_localized(tmp_path)
    assert query.name == "b" and query.matches is None


@pytest.mark.parametrize("damage", [lambda data: data[:-7], lambda data: b"no tensors"])
def test_a_damaged_file_is_one_error(tmp_path: Path, damage: object) -> None:
    write_results(tmp_path, "room", [result("a", 3)], 0, ("initial",))
    path = tmp_path / FILE_NAME
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(GSplatLocError, match="localize again"):
        read_localized(tmp_path)


def test_fewer_counts_than_queries_are_one_error(tmp_path: Path) -> None:
    write_results(tmp_path, "room", [result("a", 3)], 0, ("initial",))
    (tmp_path / "other").mkdir()
    write_results(tmp_path / "other", "room", [result("a", 3), result("b", 1)], 0, ("initial",))
    (tmp_path / "other" / FILE_NAME).write_bytes((tmp_path / FILE_NAME).read_bytes())
    with pytest.raises(GSplatLocError, match="localize again"):
        read_localized(tmp_path / "other")
