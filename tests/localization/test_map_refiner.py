"""Poses from elsewhere: which camera a photo is given, and what becomes of one without a pose."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from gsplatloc.localization.features.xfeat import Features, Keypoints
from gsplatloc.localization.io.pose_files import CoarsePose
from gsplatloc.localization.localizer import INITIAL, LocalizerOptions, make_refiners
from gsplatloc.localization.map_refiner import (
    CoarseQuery,
    MapRefiner,
    coarse_queries_in_folder,
    refine_queries,
    trajectory_of,
)
from gsplatloc.localization.queries import Intrinsics, QueryImage
from gsplatloc.localization.refine import Query
from gsplatloc.localization.refine.gscpr import GscprOptions, GscprRefiner
from gsplatloc.localization.result import PoseEstimate, Status
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.images import Lens
from gsplatloc.utils.errors import GSplatLocError

POSE = torch.eye(4, dtype=torch.float64)
CAMERA = Camera(64, 48, 60.0, 60.0, 32.0, 24.0)
NOTHING = Gaussians(
    torch.zeros(0, 3), torch.zeros(0, 4), torch.zeros(0, 3), torch.zeros(0), torch.zeros(0, 1, 3),
    torch.zeros(0, 0),
)  # fmt: skip


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

    def refine(self, query: Query, gaussians: Gaussians, initial: PoseEstimate) -> PoseEstimate:
        self.queries.append(query)
        return replace(initial, elapsed_ms=3.0)


def map_refiner(refiner: Any, max_side: int | None = None) -> MapRefiner:
    return MapRefiner(NOTHING, [refiner], FakeExtractor(), max_side)


def query(name: str, pose: torch.Tensor | None, timestamp: float | None = None) -> CoarseQuery:
    image = np.zeros((48, 64, 3), np.uint8)
    return CoarseQuery(QueryImage(name, lambda: image, lambda: CAMERA), pose, timestamp)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.full((48, 64, 3), 99, np.uint8))
    return tmp_path


def test_stages_begin_with_the_coarse_pose() -> None:
    localization = map_refiner(Recorder()).refine(np.zeros((48, 64, 3), np.uint8), CAMERA, POSE)
    assert list(localization.stages) == [INITIAL, "recorder"]
    assert localization.final.camera == CAMERA and localization.final.elapsed_ms == 3.0


def test_a_large_photo_is_refined_small_and_answered_at_its_own_size() -> None:
    recorder = Recorder()
    localization = map_refiner(recorder, max_side=32).refine(np.zeros((48, 64, 3), np.uint8), CAMERA, POSE)
    assert recorder.queries[0].image.shape == (24, 32, 3)
    assert recorder.queries[0].camera.fx == 30 and localization.final.camera == CAMERA


def test_a_photo_without_a_pose_fails_and_is_not_refined() -> None:
    recorder = Recorder()
    results = refine_queries(map_refiner(recorder), [query("a", None), query("b", POSE)], quiet=True)
    assert [result.localization.final.status for result in results] == [Status.NOT_GIVEN, Status.OK]
    assert len(recorder.queries) == 1


def test_a_camera_of_another_size_is_one_line() -> None:
    with pytest.raises(GSplatLocError, match="expected an image of its camera's 64x48, found 8x6"):
        map_refiner(Recorder()).refine(np.zeros((6, 8, 3), np.uint8), CAMERA, POSE)


def test_refined_poses_keep_the_times_of_the_coarse_ones_in_order() -> None:
    queries = [query("b", POSE, 2.5), query("a", POSE, 1.5), query("c", None, 3.5)]
    results = refine_queries(map_refiner(Recorder()), queries, quiet=True)
    trajectory = trajectory_of(queries, results)
    assert trajectory is not None and trajectory.timestamps.tolist() == [1.5, 2.5]
    assert trajectory_of([query("b", POSE)], results[:1]) is None


def test_the_pose_files_focal_length_is_used_and_the_given_one_wins(photos: Path) -> None:
    poses = {"a.png": CoarsePose(POSE, focal=50.0)}
    (known,) = coarse_queries_in_folder(photos, poses, Intrinsics())
    (given,) = coarse_queries_in_folder(photos, poses, Intrinsics(focal=70.0))
    assert known.image.load_camera() == Camera(64, 48, 50.0, 50.0, 32.0, 24.0)
    assert given.image.load_camera() == Camera(64, 48, 70.0, 70.0, 32.0, 24.0)


def test_the_pose_files_lens_is_undone(photos: Path) -> None:
    lens = Lens("SIMPLE_RADIAL", 64, 48, (60.0, 32.0, 24.0, 0.2))
    (found,) = coarse_queries_in_folder(photos, {"b.png": CoarsePose(POSE, lens=lens)}, Intrinsics())
    camera = found.image.load_camera()
    assert camera is not None and camera.fx == 60
    assert found.image.load_image().shape == (camera.height, camera.width, 3) != (48, 64, 3)


def test_gscpr_is_a_stage_like_any_other_and_finds_its_network_in_the_map(tmp_path: Path) -> None:
    options = LocalizerOptions(stages=(INITIAL, "gscpr", "lm"))
    assert isinstance(make_refiners(options)[0], GscprRefiner)
    learned = replace(options, gscpr=GscprOptions(exposure="act"))
    with pytest.raises(GSplatLocError, match="expected an exposure network .*exposure.safetensors"):
        make_refiners(learned, tmp_path)


@pytest.mark.parametrize("stages", [(), ("initial", "lm"), ("lm", "lm"), ("magic",)])
def test_what_is_no_refinement_is_one_line_that_lists_them(stages: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="expected refinements out of fine, warp, .*see --stages"):
        MapRefiner.load(tmp_path, stages)


def test_an_unknown_focal_length_is_told_before_any_photo_is_refined() -> None:
    recorder, known = Recorder(), query("a", POSE)
    unknown = CoarseQuery(replace(known.image, name="b", load_camera=lambda: None), POSE)
    with pytest.raises(GSplatLocError, match="expected a focal length of b, found none"):
        refine_queries(map_refiner(recorder), [known, unknown], quiet=True)
    assert not recorder.queries


def test_a_pose_of_single_precision_is_taken() -> None:
    recorder = Recorder()
    found = map_refiner(recorder).refine(np.zeros((48, 64, 3), np.uint8), CAMERA, POSE.float()).final
    assert found.pose().dtype == torch.float64
