"""Matches are kept if they share an epipolar geometry, whatever the lens."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch

from gsplatloc.localization.features import Keypoints
from gsplatloc.mapping.posing.database import MatchDatabase

SIZE, FOCAL = (640, 480), 200.0  # pixels
GOOD, WRONG = 80, 40  # matches


def project(model: str, points: np.ndarray) -> np.ndarray:
    camera = camera_of(model)
    return np.array([camera.img_from_cam(point) for point in points])


def camera_of(model: str) -> pycolmap.Camera:
    return pycolmap.Camera.create_from_model_name(1, model, FOCAL, *SIZE)


@pytest.fixture(params=["SIMPLE_RADIAL", "OPENCV_FISHEYE"])
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def keypoints(model: str) -> list[Keypoints]:
    """Points at different depths before two cameras, and as many more pixels that show nothing in common."""
    draws = np.random.default_rng(3)
    points = draws.uniform((-4, -3, 1), (4, 3, 4), (GOOD, 3))
    pixels = [project(model, points), project(model, points - (0.6, 0.1, 0.3))]
    pixels = [np.vstack([seen, draws.uniform((0, 0), SIZE, (WRONG, 2))]) for seen in pixels]
    none = torch.zeros(GOOD + WRONG, 1)
    return [Keypoints(torch.from_numpy(seen).float(), none, none[:, 0]) for seen in pixels]


@pytest.fixture
def database(tmp_path: Path, model: str, keypoints: list[Keypoints]) -> Iterator[MatchDatabase]:
    camera = camera_of(model)
    with closing(MatchDatabase(tmp_path / "matches.db", ["a", "b"], [camera, camera])) as opened:
        opened.write_keypoints(keypoints)
        yield opened


def stored(path: Path) -> np.ndarray:
    with pycolmap.Database.open(path / "matches.db") as database:
        return database.read_two_view_geometry(1, 2).inlier_matches


def test_matches_of_one_geometry_are_kept_and_wrong_ones_are_not(
    database: MatchDatabase, tmp_path: Path
) -> None:
    every = np.arange(GOOD + WRONG, dtype=np.uint32)[:, None].repeat(2, 1)
    database.match([(0, 1)], lambda a, b: every, "matching", quiet=True)
    kept = stored(tmp_path)[:, 0]
    assert (kept < GOOD).sum() > 0.97 * GOOD and (kept >= GOOD).sum() < 0.25 * WRONG
    assert database.verified() == [(0, 1)]


def test_a_pair_is_matched_once_and_again_when_that_is_asked_for(
    database: MatchDatabase, tmp_path: Path
) -> None:
    calls: list[tuple[int, int]] = []

    def nothing(a: int, b: int) -> np.ndarray:
        calls.append((a, b))
        return np.zeros((0, 2), np.uint32)

    good = np.arange(GOOD, dtype=np.uint32)[:, None].repeat(2, 1)
    database.match([(0, 1)], nothing, "matching", quiet=True)
    database.match([(0, 1)], nothing, "matching", quiet=True)
    assert calls == [(0, 1)] and database.verified() == []
    database.match_again([(0, 1)], lambda a, b: good, "matching again", quiet=True)
    assert database.verified() == [(0, 1)] and len(stored(tmp_path)) > 0.97 * GOOD
