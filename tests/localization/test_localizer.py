"""The localizer on a world whose features are known."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gsplatloc.localization.features import Features
from gsplatloc.localization.features.xfeat import XFeatExtractor
from gsplatloc.localization.initial.given import GivenPose
from gsplatloc.localization.initial.landmarks import LandmarkPose, check_extractor
from gsplatloc.localization.initial.members import LandmarkMatchingOptions
from gsplatloc.localization.landmarks.file import FILE_NAME, save_landmarks
from gsplatloc.localization.localizer import Localizer, map_bytes
from gsplatloc.localization.options import LocalizerOptions
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine import REFINERS
from gsplatloc.localization.result import PoseEstimate, Status
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import write_json
from tests.localization.world import CAMERA, TRUTH, VERSION, FakeExtractor, World, pose_errors

IMAGE = np.zeros((480, 640, 3), np.uint8)


class CountingRefiner:
    """Returns the estimate that it is given, and remembers the queries."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.queries: list[Query] = []

    def refine(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate:
        self.queries.append(query)
        return replace(initial, elapsed_ms=7.0)


class RecordingExtractor(FakeExtractor):
    """Remembers the shapes of the images that it was given."""

    def __init__(self, features: Features) -> None:
        super().__init__(features)
        self.shapes: list[tuple[int, ...]] = []

    def extract(self, image: np.ndarray) -> Features:
        self.shapes.append(image.shape)
        return super().extract(image)


def test_the_initial_pose_finds_the_camera(world: World) -> None:
    localizer = Localizer(LandmarkPose(world.landmarks), FakeExtractor(world.features))
    localization = localizer.localize(IMAGE, CAMERA)
    translation, rotation = pose_errors(localization.final.pose(), TRUTH)
    assert list(localization.stages) == ["initial"]
    assert translation < 0.01
    assert rotation < 0.1


def test_all_keypoints_are_matched_where_the_strongest_disagree(world: World) -> None:
    options = LandmarkMatchingOptions(first_keypoints=40)  # of these none is a landmark's
    final = (
        Localizer(LandmarkPose(world.landmarks, options), FakeExtractor(world.features))
        .localize(IMAGE, CAMERA)
        .final
    )
    assert final.ok
    assert pose_errors(final.pose(), TRUTH)[0] < 0.01


def test_without_a_camera_the_focal_length_is_estimated(world: World) -> None:
    localizer = Localizer(LandmarkPose(world.landmarks), FakeExtractor(world.features))
    final = localizer.localize(IMAGE).final
    assert final.ok
    assert final.camera.fx == pytest.approx(CAMERA.fx, rel=0.05)  # the true camera is off-centre


def test_refiners_run_in_order_on_one_query(world: World) -> None:
    refiners = [CountingRefiner("fine"), CountingRefiner("warp")]
    localizer = Localizer(LandmarkPose(world.landmarks), FakeExtractor(world.features), refiners=refiners)
    localization = localizer.localize(IMAGE, CAMERA)
    assert list(localization.stages) == ["initial", "fine", "warp"]
    assert refiners[0].queries[0] is refiners[1].queries[0]
    assert refiners[0].queries[0].dense is world.features.dense
    stages = localization.stages
    assert localization.total_ms == pytest.approx(
        localization.features_ms + stages["initial"].elapsed_ms + 14 + localization.search_ms
    )


def test_a_failed_initial_pose_skips_the_refinements(world: World) -> None:
    features = replace(world.features, keypoints=world.features.keypoints.select(slice(0, 5)))
    refiner = CountingRefiner("fine")
    localization = Localizer(
        LandmarkPose(world.landmarks), FakeExtractor(features), refiners=[refiner]
    ).localize(IMAGE, CAMERA)
    assert localization.final.status is Status.TOO_FEW_MATCHES
    assert list(localization.stages) == ["initial"]
    assert not refiner.queries


def test_image_must_fit_its_camera(world: World) -> None:
    localizer = Localizer(LandmarkPose(world.landmarks), FakeExtractor(world.features))
    with pytest.raises(GSplatLocError, match="640x480, found 320x240"):
        localizer.localize(IMAGE[::2, ::2], CAMERA)


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (IMAGE[None], r"\[H, W, 3\], found \[1, 480, 640, 3\]"),
        (IMAGE[..., [0, 0]], r"\[H, W, 3\], found \[480, 640, 2\]"),
        (255.0 * np.ones((480, 640, 3)), "floats from 0 to 1, found 255 to 255"),
        (np.full((480, 640, 3), np.nan), "floats from 0 to 1, found nan"),
        (IMAGE.astype(np.int64), "uint8, uint16 or floats, found int64"),
        (torch.zeros(480, 640, 3), "a path, or an image .* found Tensor"),
        ("nowhere.jpg", "expected an image at .*nowhere.jpg"),
    ],
)
def test_an_image_of_another_shape_or_type_is_a_user_error(world: World, image: Any, found: str) -> None:
    localizer = Localizer(LandmarkPose(world.landmarks), FakeExtractor(world.features))
    with pytest.raises(GSplatLocError, match=found):
        localizer.localize(image, CAMERA)


def test_a_given_pose_of_another_shape_is_a_user_error(world: World) -> None:
    localizer = Localizer(LandmarkPose(world.landmarks), FakeExtractor(world.features))
    with pytest.raises(GSplatLocError, match=r"expected cam_from_world \[4, 4\], found \[3, 4\]"):
        localizer.localize(IMAGE, CAMERA, TRUTH[:3])


class Hypotheses:
    """An initial pose that proposes the given estimates, one after another."""

    name = "hypotheses"

    def __init__(self, *estimates: PoseEstimate) -> None:
        self.estimates = estimates

    def hypotheses(self, query: Query) -> Iterator[PoseEstimate]:
        yield from self.estimates


class PickyRefiner:
    """Accepts the true pose only."""

    name = "picky"

    def refine(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate:
        return replace(initial, accepted=torch.equal(initial.pose(), TRUTH), elapsed_ms=3.0)


UNSUPPORTED = PoseEstimate(Status.OK, CAMERA, torch.eye(4, dtype=torch.float64), accepted=False)


def test_the_first_hypothesis_that_a_refinement_accepts_is_returned(world: World) -> None:
    initial = Hypotheses(UNSUPPORTED, replace(UNSUPPORTED, cam_from_world=TRUTH), UNSUPPORTED)
    localizer = Localizer(initial, FakeExtractor(world.features), refiners=[PickyRefiner()])
    localization = localizer.localize(IMAGE, CAMERA)
    assert localization.final.accepted and torch.equal(localization.final.pose(), TRUTH)
    assert list(localization.stages) == ["initial", "picky"]


def test_hypotheses_that_no_refinement_accepts_are_a_failure(world: World) -> None:
    initial = Hypotheses(UNSUPPORTED, UNSUPPORTED)
    localizer = Localizer(initial, FakeExtractor(world.features), refiners=[PickyRefiner()])
    stages = localizer.localize(IMAGE, CAMERA).stages
    assert stages["picky"].status is Status.NO_CONSENSUS and not stages["picky"].accepted
    assert stages["picky"].elapsed_ms == 3.0
    assert stages["initial"].ok


def test_a_pose_of_the_first_hypothesis_is_kept_where_its_refinement_is_rejected(world: World) -> None:
    """Landmarks support it: only an initial pose without matches depends on a refinement."""
    supported = replace(UNSUPPORTED, accepted=True)
    localizer = Localizer(Hypotheses(supported), FakeExtractor(world.features), refiners=[PickyRefiner()])
    final = localizer.localize(IMAGE, CAMERA).final
    assert final.ok and not final.accepted


@pytest.mark.parametrize(
    "broken", [TRUTH * torch.nan, torch.zeros(4, 4), TRUTH * 2, torch.diag(torch.tensor([1.0, 1, -1, 1]))]
)
def test_a_given_pose_that_is_no_rigid_motion_is_a_user_error(world: World, broken: torch.Tensor) -> None:
    with pytest.raises(GSplatLocError, match="given pose"):
        Localizer(GivenPose(), FakeExtractor(world.features)).localize(IMAGE, CAMERA, broken)


def test_the_given_pose_reaches_the_initial_pose(world: World) -> None:
    final = Localizer(GivenPose(), FakeExtractor(world.features)).localize(IMAGE, CAMERA, TRUTH).final
    assert torch.equal(final.pose(), TRUTH) and final.covariance is None


def test_landmarks_of_another_extractor_are_refused(world: World) -> None:
    landmarks = replace(world.landmarks, extractor="other-2")
    with pytest.raises(GSplatLocError, match="other-2"):
        check_extractor(landmarks, FakeExtractor(world.features))


def test_refiners_need_gaussians(world: World, tmp_path: Path) -> None:
    save_landmarks(replace(world.landmarks, extractor=XFeatExtractor().version), tmp_path / FILE_NAME)
    with pytest.raises(GSplatLocError, match="found no point_cloud"):
        Localizer.load(tmp_path)


@pytest.mark.parametrize("stages", [("initial", "magic"), ("warp", "warp"), ("lm", "initial")])
def test_unknown_stages_are_a_user_error(stages: tuple[str, ...]) -> None:
    with pytest.raises(GSplatLocError, match="--stages"):
        LocalizerOptions(stages=stages).refinements()


@pytest.mark.parametrize("first", [(), ("initial",), ("prior",)])
def test_the_initial_pose_may_be_named_among_the_stages(first: tuple[str, ...]) -> None:
    options = LocalizerOptions(stages=(*first, "warp", "fine"))
    assert options.chain() == ("initial", "warp", "fine")


def test_an_unknown_initial_pose_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="given, gsvisloc, landmarks, retrieval, views, found 'luck'"):
        Localizer.load(tmp_path, LocalizerOptions(initial="luck"))


def test_settings_of_no_method_are_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match=r"LmOptions, .* found LocalizerOptions\("):
        Localizer.load(tmp_path, LocalizerOptions(settings=(LocalizerOptions(),)))


def test_a_refiner_that_names_itself_otherwise_is_a_user_error(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results are kept by its name, and read by the registered one."""
    save_landmarks(replace(world.landmarks, extractor=XFeatExtractor().version), tmp_path / FILE_NAME)
    other = replace(REFINERS["lm"], make=lambda options, context: CountingRefiner("ml"))
    monkeypatch.setitem(REFINERS._entries, "lm", other)
    with pytest.raises(GSplatLocError, match="name='lm' .* found 'ml'"):
        Localizer.load(tmp_path)


@pytest.mark.parametrize("name", ["initial", "prior", "fallback", "final"])
def test_a_refiner_may_not_be_called_like_another_stage(name: str) -> None:
    with pytest.raises(GSplatLocError, match=f"found '{name}' of .*: rename it"):
        REFINERS.register(name)(lambda options, context: CountingRefiner(name))


def test_folder_without_a_map_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match=r"run gsplatloc map or train"):
        Localizer.load(tmp_path)


def test_a_path_that_is_no_folder_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match=r"folder of a map at .*, found none: check the path"):
        Localizer.load(tmp_path / "none")


def test_a_missing_photo_is_called_so(world: World, tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match=r"none.jpg, found no file: check the path"):
        Localizer(LandmarkPose(world.landmarks), FakeExtractor(world.features)).localize(
            tmp_path / "none.jpg"
        )


def test_a_focal_length_in_the_place_of_a_camera_is_refused(world: World) -> None:
    image = np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8)
    with pytest.raises(GSplatLocError, match=r"Camera or CameraPrior, found float"):
        Localizer(LandmarkPose(world.landmarks), FakeExtractor(world.features)).localize(image, 500.0)  # type: ignore[arg-type]


def test_a_localizer_is_described_in_one_line(world: World) -> None:
    assert repr(Localizer(LandmarkPose(world.landmarks), FakeExtractor(world.features))).startswith(
        "Localizer(None, stages initial"
    )


def test_landmarks_alone_localize(world: World, tmp_path: Path) -> None:
    """A map without Gaussians is enough for the initial pose; its size is that of the landmarks."""
    options = LocalizerOptions(stages=("initial",))
    landmarks = replace(world.landmarks, extractor=XFeatExtractor().version)
    save_landmarks(landmarks, tmp_path / FILE_NAME)
    localizer = Localizer.load(tmp_path, options)
    assert localizer.initial.hypotheses(world.query(CAMERA))[0].ok  # type: ignore[index]
    assert map_bytes(localizer) == (tmp_path / FILE_NAME).stat().st_size
    assert landmarks.extractor != VERSION


def test_a_large_image_is_shrunk_and_its_estimate_is_for_the_image_as_given(world: World) -> None:
    """The extractor sees 640x480; the photo has twice that, and so have its camera and its matches."""
    extractor = RecordingExtractor(world.features)
    localizer = Localizer(LandmarkPose(world.landmarks), extractor, max_side=640)
    camera = CAMERA.resized(1280, 960)
    estimate = localizer.localize(np.zeros((960, 1280, 3), np.uint8), camera).final
    assert extractor.shapes == [(480, 640, 3)]
    assert estimate.camera == camera
    assert estimate.matches is not None
    distances = np.linalg.norm(estimate.matches.pixels[:1] / 2 - world.pixels, axis=1)
    assert distances.min() < 1e-4
    assert pose_errors(estimate.pose(), TRUTH)[0] < 0.01
    assert localizer.query(np.zeros((960, 1280, 3), np.uint8), camera)[0].given_side == 1280


def test_a_small_image_is_not_enlarged(world: World) -> None:
    extractor = RecordingExtractor(world.features)
    Localizer(LandmarkPose(world.landmarks), extractor, max_side=1280).localize(IMAGE, CAMERA)
    assert extractor.shapes == [(480, 640, 3)]


def test_an_image_of_a_fraction_of_the_mapping_resolution_is_enlarged(world: World) -> None:
    """A thumbnail with known focal length: the extractor sees details in the size that the map knows."""
    extractor = RecordingExtractor(world.features)
    thumbnail = CAMERA.resized(160, 120)
    localizer = Localizer(LandmarkPose(world.landmarks), extractor, max_side=640, focal=CAMERA.fx)
    estimate = localizer.localize(np.zeros((120, 160, 3), np.uint8), thumbnail).final
    assert extractor.shapes == [(480, 640, 3)] and estimate.camera == thumbnail
    assert pose_errors(estimate.pose(), TRUTH)[0] < 0.01


@pytest.mark.parametrize("known", [True, False])
def test_a_narrow_field_of_view_and_an_unknown_focal_length_enlarge_nothing(
    world: World, known: bool
) -> None:
    extractor = RecordingExtractor(world.features)
    cropped = replace(CAMERA, width=160, height=120, cx=80.0, cy=60.0)
    localizer = Localizer(LandmarkPose(world.landmarks), extractor, max_side=640, focal=CAMERA.fx)
    localizer.localize(np.zeros((120, 160, 3), np.uint8), cropped if known else None)
    assert extractor.shapes == [(120, 160, 3)]


def test_the_size_of_the_mapping_images_is_that_of_large_queries(world: World, tmp_path: Path) -> None:
    landmarks = replace(world.landmarks, extractor=XFeatExtractor().version)
    save_landmarks(landmarks, tmp_path / FILE_NAME)
    options = LocalizerOptions(stages=("initial",))
    assert Localizer.load(tmp_path, options).max_side is None
    write_json(tmp_path / "cameras.json", [{"width": 480, "height": 640}, {"width": 320, "height": 240}])
    assert Localizer.load(tmp_path, options).max_side == 640


def test_a_textureless_image_fails_with_a_status(world: World) -> None:
    landmarks = replace(world.landmarks, extractor=XFeatExtractor().version)
    for image in (IMAGE, np.full((1, 1, 3), 255, np.uint8)):
        localization = Localizer(LandmarkPose(landmarks), XFeatExtractor()).localize(image)
        assert localization.final.status is Status.TOO_FEW_MATCHES
