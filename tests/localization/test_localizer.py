"""The localizer on a world whose features are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gsplatloc.localization.features.xfeat import Features, XFeatExtractor
from gsplatloc.localization.landmarks.file import FILE_NAME, save_landmarks
from gsplatloc.localization.localizer import Localizer, LocalizerOptions, make_refiners, map_bytes
from gsplatloc.localization.refine import Query
from gsplatloc.localization.result import PoseEstimate, Status, pose_errors
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import write_json
from tests.localization.world import CAMERA, TRUTH, VERSION, FakeExtractor, World

IMAGE = np.zeros((480, 640, 3), np.uint8)
NO_GAUSSIANS = Gaussians(
    torch.zeros(0, 3), torch.zeros(0, 4), torch.zeros(0, 3), torch.zeros(0), torch.zeros(0, 1, 3),
    torch.zeros(0, 64),
)  # fmt: skip


class CountingRefiner:
    """Returns its prior, and remembers what it was asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.queries: list[Query] = []

    def refine(self, query: Query, gaussians: Gaussians, initial: PoseEstimate) -> PoseEstimate:
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


def test_prior_finds_the_camera(world: World) -> None:
    localizer = Localizer(world.landmarks, FakeExtractor(world.features))
    localization = localizer.localize(IMAGE, CAMERA)
    translation, rotation = pose_errors(localization.final.pose(), TRUTH)
    assert list(localization.stages) == ["initial"]
    assert translation < 0.01
    assert rotation < 0.1


def test_where_the_strongest_keypoints_disagree_all_are_compared(world: World) -> None:
    options = LocalizerOptions(first_k=40)  # of these none is a landmark's
    final = (
        Localizer(world.landmarks, FakeExtractor(world.features), options=options)
        .localize(IMAGE, CAMERA)
        .final
    )
    assert final.ok
    assert pose_errors(final.pose(), TRUTH)[0] < 0.01


def test_without_a_camera_the_focal_length_is_estimated(world: World) -> None:
    localizer = Localizer(world.landmarks, FakeExtractor(world.features))
    final = localizer.localize(IMAGE).final
    assert final.ok
    assert final.camera.fx == pytest.approx(CAMERA.fx, rel=0.05)  # the true camera is off-centre


def test_refiners_run_in_order_on_one_query(world: World) -> None:
    refiners = [CountingRefiner("fine"), CountingRefiner("warp")]
    localizer = Localizer(world.landmarks, FakeExtractor(world.features), NO_GAUSSIANS, refiners)
    localization = localizer.localize(IMAGE, CAMERA)
    assert list(localization.stages) == ["initial", "fine", "warp"]
    assert refiners[0].queries[0] is refiners[1].queries[0]
    assert refiners[0].queries[0].dense is world.features.dense
    stages = localization.stages
    assert localization.total_ms == pytest.approx(
        localization.features_ms + stages["initial"].elapsed_ms + 14
    )


def test_failed_prior_skips_refinement(world: World) -> None:
    features = replace(world.features, keypoints=world.features.keypoints.select(slice(0, 5)))
    refiner = CountingRefiner("fine")
    localization = Localizer(world.landmarks, FakeExtractor(features), NO_GAUSSIANS, [refiner]).localize(
        IMAGE, CAMERA
    )
    assert localization.final.status is Status.TOO_FEW_MATCHES
    assert list(localization.stages) == ["initial"]
    assert not refiner.queries


def test_image_must_fit_its_camera(world: World) -> None:
    localizer = Localizer(world.landmarks, FakeExtractor(world.features))
    with pytest.raises(GSplatLocError, match="640x480, found 320x240"):
        localizer.localize(IMAGE[::2, ::2], CAMERA)


def test_landmarks_of_another_extractor_are_refused(world: World) -> None:
    landmarks = replace(world.landmarks, extractor="other-2")
    with pytest.raises(GSplatLocError, match="other-2"):
        Localizer(landmarks, FakeExtractor(world.features))


def test_refiners_need_gaussians(world: World) -> None:
    with pytest.raises(GSplatLocError, match="only the prior"):
        Localizer(world.landmarks, FakeExtractor(world.features), None, [CountingRefiner("fine")])


@pytest.mark.parametrize("stages", [(), ("fine",), ("initial", "magic"), ("initial", "warp", "warp")])
def test_unknown_stages_are_a_user_error(stages: tuple[str, ...]) -> None:
    with pytest.raises(GSplatLocError, match="--stages"):
        make_refiners(LocalizerOptions(stages=stages))


def test_refiners_are_made_in_the_order_asked_for() -> None:
    refiners = make_refiners(LocalizerOptions(stages=("initial", "warp", "fine")))
    assert [refiner.name for refiner in refiners] == ["warp", "fine"]


def test_folder_without_a_map_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match=r"run train\.py"):
        Localizer.load(tmp_path)


def test_landmarks_alone_localize(world: World, tmp_path: Path) -> None:
    """A map without Gaussians serves the prior stage; its size is that of the landmarks."""
    options = LocalizerOptions(stages=("initial",))
    landmarks = replace(world.landmarks, extractor=XFeatExtractor().version)
    save_landmarks(landmarks, tmp_path / FILE_NAME)
    localizer = Localizer.load(tmp_path, options)
    assert localizer.initial(world.features, CAMERA).ok
    assert map_bytes(tmp_path, options) == (tmp_path / FILE_NAME).stat().st_size
    assert landmarks.extractor != VERSION


def test_a_large_image_is_shrunk_and_its_estimate_is_for_the_image_as_given(world: World) -> None:
    """The extractor sees 640x480; the photo has twice that, and so have its camera and its matches."""
    extractor = RecordingExtractor(world.features)
    localizer = Localizer(world.landmarks, extractor, options=LocalizerOptions(max_side=640))
    camera = CAMERA.resized(1280, 960)
    estimate = localizer.localize(np.zeros((960, 1280, 3), np.uint8), camera).final
    assert extractor.shapes == [(480, 640, 3)]
    assert estimate.camera == camera
    assert estimate.matches is not None
    distances = np.linalg.norm(estimate.matches.pixels[:1] / 2 - world.pixels, axis=1)
    assert distances.min() < 1e-4
    assert pose_errors(estimate.pose(), TRUTH)[0] < 0.01


def test_a_small_image_is_not_enlarged(world: World) -> None:
    extractor = RecordingExtractor(world.features)
    Localizer(world.landmarks, extractor, options=LocalizerOptions(max_side=1280)).localize(IMAGE, CAMERA)
    assert extractor.shapes == [(480, 640, 3)]


def test_the_size_of_the_mapping_images_is_that_of_large_queries(world: World, tmp_path: Path) -> None:
    landmarks = replace(world.landmarks, extractor=XFeatExtractor().version)
    save_landmarks(landmarks, tmp_path / FILE_NAME)
    options = LocalizerOptions(stages=("initial",))
    assert Localizer.load(tmp_path, options).options.max_side is None
    write_json(tmp_path / "cameras.json", [{"width": 480, "height": 640}, {"width": 320, "height": 240}])
    assert Localizer.load(tmp_path, options).options.max_side == 640


def test_a_textureless_image_fails_with_a_status(world: World) -> None:
    landmarks = replace(world.landmarks, extractor=XFeatExtractor().version)
    for image in (IMAGE, np.full((1, 1, 3), 255, np.uint8)):
        localization = Localizer(landmarks, XFeatExtractor()).localize(image)
        assert localization.final.status is Status.TOO_FEW_MATCHES
