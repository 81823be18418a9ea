"""Queries with poses of another estimator: their cameras, and the fate of one without a pose."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from gsplatloc.localization.features import Features, Keypoints
from gsplatloc.localization.initial.given import GivenPose
from gsplatloc.localization.io.given_poses import queries_of_folder, require_cameras, trajectory_of
from gsplatloc.localization.io.pose_files import ExternalPose
from gsplatloc.localization.io.results import localize_queries
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.queries import Intrinsics, Query, QueryImage
from gsplatloc.localization.result import PoseEstimate, Status
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.images import CameraModel
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils.errors import GSplatLocError

POSE = torch.eye(4, dtype=torch.float64)
CAMERA = Camera(64, 48, 60.0, 60.0, 32.0, 24.0)


class FakeExtractor:
    """Finds nothing."""

    def extract(self, image: np.ndarray) -> Features:
        keypoints = Keypoints(torch.zeros(0, 2), torch.zeros(0, 64), torch.zeros(0))
        return Features(keypoints, torch.zeros(64, 4, 4))


class Recorder:
    """A refiner that remembers its queries and moves nothing."""

    name = "recorder"

    def __init__(self) -> None:
        self.queries: list[Query] = []

    def refine(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate:
        self.queries.append(query)
        return replace(initial, elapsed_ms=3.0)


def localizer(refiner: Any, max_side: int | None = None) -> Localizer:
    return Localizer(GivenPose(), FakeExtractor(), refiners=[refiner], max_side=max_side)  # type: ignore[arg-type]


def query(name: str, pose: torch.Tensor | None, timestamp: float | None = None) -> QueryImage:
    image = np.zeros((48, 64, 3), np.uint8)
    return QueryImage(name, lambda: image, lambda: CAMERA, given_pose=pose, timestamp=timestamp)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.full((48, 64, 3), 99, np.uint8))
    return tmp_path


def test_stages_begin_with_the_coarse_pose() -> None:
    localization = localizer(Recorder()).localize(np.zeros((48, 64, 3), np.uint8), CAMERA, POSE)
    assert list(localization.stages) == ["initial", "recorder"]
    assert localization.final.camera == CAMERA and localization.final.elapsed_ms == 3.0


def test_a_large_photo_is_refined_small_and_answered_at_its_own_size() -> None:
    recorder = Recorder()
    localization = localizer(recorder, max_side=32).localize(np.zeros((48, 64, 3), np.uint8), CAMERA, POSE)
    assert recorder.queries[0].image.shape == (24, 32, 3)
    assert recorder.queries[0].camera.fx == 30 and localization.final.camera == CAMERA


def test_a_photo_without_a_pose_fails_and_is_not_refined() -> None:
    recorder = Recorder()
    results = localize_queries(localizer(recorder), [query("a", None), query("b", POSE)], quiet=True)
    assert [result.localization.final.status for result in results] == [Status.NOT_GIVEN, Status.OK]
    assert len(recorder.queries) == 1


def test_a_camera_of_another_size_is_one_line() -> None:
    with pytest.raises(GSplatLocError, match="expected an image of its camera's 64x48, found 8x6"):
        localizer(Recorder()).localize(np.zeros((6, 8, 3), np.uint8), CAMERA, POSE)


def test_refined_poses_keep_the_times_of_the_coarse_ones_in_order() -> None:
    queries = [query("b", POSE, 2.5), query("a", POSE, 1.5), query("c", None, 3.5)]
    results = localize_queries(localizer(Recorder()), queries, quiet=True)
    trajectory = trajectory_of(queries, results)
    assert trajectory is not None and trajectory.timestamps.tolist() == [1.5, 2.5]
    assert trajectory_of([query("b", POSE)], results[:1]) is None


def test_the_pose_files_focal_length_is_used_and_the_given_one_wins(photos: Path) -> None:
    poses = {"a.png": ExternalPose(POSE, focal=50.0)}
    (known,) = queries_of_folder(photos, poses, Intrinsics())
    (given,) = queries_of_folder(photos, poses, Intrinsics(focal=70.0))
    assert known.load_camera() == Camera(64, 48, 50.0, 50.0, 32.0, 24.0)
    assert given.load_camera() == Camera(64, 48, 70.0, 70.0, 32.0, 24.0)


@pytest.mark.parametrize("focal", [0.0, -50.0, math.nan, 2.0])
def test_a_focal_length_of_a_pose_file_that_no_lens_has_is_one_line(photos: Path, focal: float) -> None:
    poses = {"a.png": ExternalPose(POSE, focal=focal)}
    with pytest.raises(GSplatLocError, match="a.png.*, found"):
        queries_of_folder(photos, poses, Intrinsics())
    assert len(queries_of_folder(photos, poses, Intrinsics(focal=50.0))) == 1


def test_the_distortion_of_a_pose_file_is_undone(photos: Path) -> None:
    camera_model = CameraModel("SIMPLE_RADIAL", 64, 48, (60.0, 32.0, 24.0, 0.2))
    (found,) = queries_of_folder(
        photos, {"b.png": ExternalPose(POSE, camera_model=camera_model)}, Intrinsics()
    )
    camera = found.load_camera()
    assert camera is not None and camera.fx == 60
    assert found.load_image().shape == (camera.height, camera.width, 3) != (48, 64, 3)


def test_an_unknown_focal_length_is_an_error_before_any_photo_is_refined() -> None:
    known = query("a", POSE)
    unknown = replace(known, name="b", load_camera=lambda: None)
    with pytest.raises(GSplatLocError, match="expected a focal length of b, found none"):
        require_cameras([known, unknown])


def test_a_pose_of_single_precision_is_taken() -> None:
    recorder = Recorder()
    found = localizer(recorder).localize(np.zeros((48, 64, 3), np.uint8), CAMERA, POSE.float()).final
    assert found.pose().dtype == torch.float64
