"""A camera that is given as exact and is not that of the query: another size, unit, lens or crop."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gsplatloc.localization.initial.given import GivenPose, make
from gsplatloc.localization.initial.landmarks import LandmarkPose
from gsplatloc.localization.initial.replaced_camera import hypotheses_of
from gsplatloc.localization.landmarks.file import FILE_NAME, save_landmarks
from gsplatloc.localization.pose.camera import given as given_camera
from gsplatloc.localization.pose.camera.given import doubt_of_given
from gsplatloc.localization.pose.reprojection import observe
from gsplatloc.localization.queries import Intrinsics, Query, queries_in_folder
from gsplatloc.localization.refine import StageContext
from gsplatloc.localization.result import Localization, Matches, PoseEstimate, Status
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.intrinsics import doubt
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.registry import NoOptions
from tests.field.test_photos_with_exif import check
from tests.localization.world import CAMERA, TRUTH, VERSION, FakeExtractor, make_world


def given(focal: float = 1.0, across: float = 0.0) -> Camera:
    return replace(CAMERA, fx=focal * CAMERA.fx, fy=focal * CAMERA.fy, cx=CAMERA.cx + across * CAMERA.width)


@pytest.mark.parametrize(
    "camera", [given(0.4), given(0.5), given(0.8), given(1.1), given(2.0), given(1.0, 0.1), given(1.3, -0.2)]
)
@pytest.mark.parametrize("seed", range(2))
def test_a_camera_that_the_matches_contradict_is_replaced(camera: Camera, seed: int) -> None:
    world = make_world(seed=seed)
    query, found, replaced = hypotheses_of(LandmarkPose(world.landmarks), world.query(camera))
    assert replaced and not query.focal_known
    first = next(iter(found))
    check(first, 0.03, 0.4)
    assert first.camera.fx == pytest.approx(CAMERA.fx, rel=0.02)
    advice = Localization({"initial": first}, camera_replaced=True).advice
    assert "the given camera does not fit its matches: a focal length of" in advice


@pytest.mark.parametrize("seed", range(6))
def test_a_right_camera_is_kept(seed: int) -> None:
    world = make_world(seed=seed)
    query, found, replaced = hypotheses_of(LandmarkPose(world.landmarks), world.query(CAMERA))
    assert not replaced and query.focal_known and next(iter(found)).camera == CAMERA


@pytest.mark.parametrize("focal", [0.95, 0.97, 1.03, 1.05])
@pytest.mark.parametrize("seed", range(4))
def test_the_stated_error_holds_where_matches_hardly_show_the_focal_length(focal: float, seed: int) -> None:
    world = make_world(noise_px=3.0, seed=seed)
    _, found, _ = hypotheses_of(LandmarkPose(world.landmarks), world.query(given(focal)))
    check(next(iter(found)), 0.5, 5.0)


@pytest.mark.parametrize("seed", range(6))
def test_the_doubt_of_a_right_camera_hardly_widens_the_stated_error(seed: int) -> None:
    world = make_world(seed=seed)
    pose, query = LandmarkPose(world.landmarks), world.query(CAMERA)
    _, found, _ = hypotheses_of(pose, query)
    stated, certain = (
        next(iter(found)).expected_translation_m,
        pose.hypotheses(query)[0].expected_translation_m,
    )
    assert stated is not None and certain is not None and certain <= stated < 1.2 * certain


@pytest.mark.parametrize("focal", [0.5, 0.9, 1.3])
def test_a_wrong_camera_of_a_given_pose_is_replaced(focal: float) -> None:
    world = make_world(seed=0)
    query = replace(world.query(given(focal)), given_pose=TRUTH)
    query, found, replaced = hypotheses_of(GivenPose(LandmarkPose(world.landmarks)), query)
    (pose,) = found
    assert replaced and not query.focal_known and torch.equal(pose.pose(), TRUTH)
    assert pose.camera.fx == pytest.approx(CAMERA.fx, rel=0.02) and pose.camera_covariance is not None


@pytest.mark.parametrize("seed", range(6))
def test_a_right_camera_of_a_given_pose_is_kept_with_its_doubt(seed: int) -> None:
    world = make_world(seed=seed)
    query = replace(world.query(CAMERA), given_pose=TRUTH)
    query, (pose,), replaced = hypotheses_of(GivenPose(LandmarkPose(world.landmarks)), query)
    assert not replaced and query.focal_known and pose.camera == CAMERA
    assert pose.covariance is None and pose.camera_covariance is not None


def test_a_given_pose_in_a_map_without_landmarks_has_the_given_camera() -> None:
    query = replace(make_world(seed=0).query(given(0.5)), given_pose=TRUTH)
    _, (pose,), replaced = hypotheses_of(GivenPose(), query)
    assert not replaced and pose.camera == given(0.5) and pose.camera_covariance is None


@pytest.mark.parametrize("landmarks, said", [
    (b"damaged", "expected landmarks of a map"), ("other-1", "expected landmarks of test-1, found other-1"),
    (None, ""), (VERSION, ""),
])  # fmt: skip
def test_given_poses_are_refined_without_landmarks_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], landmarks: bytes | str | None, said: str
) -> None:
    world = make_world(seed=0)
    if isinstance(landmarks, bytes):
        (tmp_path / FILE_NAME).write_bytes(landmarks)
    elif landmarks is not None:
        save_landmarks(replace(world.landmarks, extractor=landmarks), tmp_path / FILE_NAME)
    initial = make(NoOptions(), StageContext(SplatMap(tmp_path), FakeExtractor(world.features)))
    assert (getattr(initial, "camera_evidence", None) is not None) is (landmarks == VERSION)
    told = capsys.readouterr().err
    assert told.count("\n") == bool(said) and said in told
    query = replace(world.query(CAMERA), given_pose=TRUTH)
    assert torch.equal(next(iter(initial.hypotheses(query))).pose(), TRUTH)


def test_a_camera_that_no_likelihood_supports_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    world, doubts = make_world(seed=0), []
    observations = observe(torch.from_numpy(world.pixels), torch.from_numpy(world.points))
    for density in (0.0, 1.0):  # both underflow; both are equal, so that the prior of 10 % decides
        monkeypatch.setattr(given_camera, "normal_density", lambda x, variance, value=density: value)
        doubts.append(doubt_of_given(TRUTH, CAMERA, observations))
    assert doubts[0] is not None and doubts[1] is not None
    torch.testing.assert_close(doubts[0], 10 * doubts[1])


def test_a_degenerate_fit_says_nothing_of_the_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(seed=0)
    observations = observe(torch.from_numpy(world.pixels), torch.from_numpy(world.points))
    monkeypatch.setattr(given_camera, "jackknife", lambda sums: torch.full((7, 7), math.nan).double())
    assert doubt_of_given(TRUTH, CAMERA, observations) is None


@dataclass
class Estimates:
    """An initial pose that finds as many inliers, and the other camera for a query without a focal length."""

    inliers: int
    other: Camera
    found: int

    def hypotheses(self, query: Query) -> list[PoseEstimate]:
        matches = Matches(np.zeros((100, 2)), np.zeros((100, 3)), np.zeros(100, bool))
        camera = query.camera if query.focal_known else self.other
        inliers = self.inliers if query.focal_known else self.found
        return [PoseEstimate(Status.OK, camera, torch.eye(4).double(), inliers=inliers, matches=matches)]


@pytest.mark.parametrize(
    ("other", "found", "replaced"),
    [(given(0.5), 80, True), (given(0.5), 60, False), (given(1.0, 1.6), 80, False), (given(1.01), 80, False)],
)
def test_few_matches_that_agree_are_no_proof_of_another_camera(
    other: Camera, found: int, replaced: bool
) -> None:
    """As in views far from the mapping views, whose matches hardly determine a camera."""
    query = make_world(seed=0).query(CAMERA)
    assert hypotheses_of(Estimates(50, other, found), query)[2] == replaced


def photos(root: Path, *sizes: tuple[int, int]) -> Path:
    for number, (width, height) in enumerate(sizes):
        cv2.imwrite(str(root / f"{number}.png"), np.zeros((height, width, 3), np.uint8))
    return root


@pytest.mark.parametrize(
    ("known", "found"),
    [
        (Intrinsics(focal=60.0), "a focal length of 60"),  # degrees
        (Intrinsics(focal=26.0), "a focal length of 26"),  # millimetres
        (Intrinsics(matrix=(0.8, 1.0, 0.5, 0.5)), "a focal length of 0.8"),
        (
            Intrinsics(matrix=(500.0, 500.0, 0.5, 0.5)),
            "a principal point of 0.5, 0.5, which seems to be relative",
        ),
        (Intrinsics(matrix=(1000.0, 1000.0, 1280.0, 960.0)), "a principal point of 1280, 960, which is not"),
        (Intrinsics(matrix=(525.0, 319.5, 525.0, 239.5)), "focal lengths of 525 and 319.5, which differ"),
    ],
)
def test_intrinsics_of_no_query_are_refused(tmp_path: Path, known: Intrinsics, found: str) -> None:
    folder = photos(tmp_path, (640, 480))
    with pytest.raises(GSplatLocError, match=f"pixels of an image of 640x480 for 0.png, found {found}"):
        queries_in_folder(folder, known)


def test_intrinsics_are_of_one_size(tmp_path: Path) -> None:
    folder = photos(tmp_path, (640, 480), (480, 640))
    (folder / "2.png").write_bytes(b"")  # a failed query, and no size
    with pytest.raises(GSplatLocError, match="images of one size for fx fy cx cy, found 640x480 and 480x640"):
        queries_in_folder(folder, Intrinsics(matrix=(500.0, 500.0, 320.0, 240.0)))
    assert len(queries_in_folder(folder, Intrinsics(focal=500.0))) == 3


def test_numbers_that_are_not_finite_are_no_intrinsics() -> None:
    with pytest.raises(GSplatLocError, match="expected fx fy cx cy in pixels"):
        Intrinsics(matrix=(500.0, 500.0, math.nan, 240.0))


def test_a_list_of_queries_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "queries.txt").write_text("a.png SIMPLE_RADIAL 320 256 300 160 128 0\n")
    with pytest.raises(GSplatLocError, match="found a file of another kind: pass the folder of its images"):
        queries_in_folder(tmp_path / "queries.txt")


def test_cameras_of_photos_are_not_doubtful() -> None:
    assert doubt(CAMERA) is None and doubt(Camera(640, 480, 500.0, 520.0, 100.0, 400.0)) is None
