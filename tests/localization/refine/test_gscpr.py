"""One-shot refinement: range, variants and matchers; test_contract.py has what all refiners do."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gsplatloc.localization.alignment.exposure import ExposureNetwork
from gsplatloc.localization.features.xfeat import XFeatExtractor
from gsplatloc.localization.matching.images import ImageMatches
from gsplatloc.localization.matching.images.mutual import MutualMatcher
from gsplatloc.localization.pose.pnp import estimate_pose
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine.gscpr import GscprRefiner
from gsplatloc.localization.refine.members import GscprOptions
from gsplatloc.localization.result import Matches
from gsplatloc.utils.errors import GSplatLocError
from tests.localization.world import pose_errors

FAR = [0.14, -0.1, 0.1, 0.08, -0.12, 0.1]  # 20 cm, 10 degrees
NEAR = [0.02, -0.01, 0.02, 0.01, -0.01, 0.015]


@pytest.fixture(scope="module")
def matcher() -> MutualMatcher:
    return MutualMatcher(XFeatExtractor(top_k=1024))


@pytest.fixture(scope="module")
def query(room: Any, matcher: MutualMatcher) -> Query:
    """The room's photo with the keypoints that XFeat finds in it."""
    features = matcher.extractor.extract(room.query.image)
    return Query(room.query.image, room.query.camera, features.keypoints, features.dense)


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_pose_is_recovered_from_20_cm_and_10_degrees(
    room: Any, query: Query, matcher: MutualMatcher, rounds: int
) -> None:
    refiner = GscprRefiner(GscprOptions(rounds=rounds), matcher=matcher)
    estimate = refiner.refine(query, room.splat_map, room.initial(FAR))
    translation_m, rotation_deg = pose_errors(estimate.cam_from_world, room.truth)
    assert estimate.ok and estimate.accepted and estimate.elapsed_ms > 0
    assert translation_m < 0.02
    assert rotation_deg < 0.5


def test_the_relative_variant_recovers_the_scale_too(room: Any, query: Query, matcher: MutualMatcher) -> None:
    refiner = GscprRefiner(GscprOptions(rounds=1, relative=True), matcher=matcher)
    estimate = refiner.refine(query, room.splat_map, room.initial(FAR))
    translation_m, rotation_deg = pose_errors(estimate.cam_from_world, room.truth)
    assert estimate.accepted
    assert translation_m < 0.08
    assert rotation_deg < 1


def test_a_dense_matcher_is_given_the_photo_and_the_rendering(room: Any, query: Query) -> None:
    given = []

    class Recorder:
        name = "recorder"

        def match(self, image_a: np.ndarray, image_b: np.ndarray) -> ImageMatches:
            given.append((image_a, image_b))
            return ImageMatches(torch.zeros(0, 2), torch.zeros(0, 2), torch.zeros(0))

    initial = room.initial(NEAR)
    estimate = GscprRefiner(matcher=Recorder()).refine(query, room.splat_map, initial)
    photo, rendering = given[0]
    assert np.array_equal(photo, query.image) and rendering.shape == photo.shape
    assert rendering.dtype == np.uint8 and np.ptp(rendering) > 50
    assert not estimate.accepted and torch.equal(estimate.pose(), initial.pose())


def test_a_larger_photo_is_matched_small_and_solved_at_its_own_size(
    room: Any, query: Query, matcher: MutualMatcher
) -> None:
    refiner = GscprRefiner(GscprOptions(max_side=240, rounds=1), matcher=matcher)
    estimate = refiner.refine(query, room.splat_map, room.initial(NEAR))
    assert estimate.camera == query.camera
    assert pose_errors(estimate.cam_from_world, room.truth)[0] < 0.04


def test_the_relative_variant_rejects_an_image_of_another_place(room: Any, matcher: MutualMatcher) -> None:
    noise = np.random.default_rng(0).integers(0, 255, room.query.image.shape, np.uint8)
    features = matcher.extractor.extract(noise)
    query = Query(noise, room.query.camera, features.keypoints, features.dense)
    initial = room.initial(NEAR)
    refiner = GscprRefiner(GscprOptions(relative=True), matcher=matcher)
    estimate = refiner.refine(query, room.splat_map, initial)
    assert not estimate.accepted and torch.equal(estimate.pose(), initial.pose())


def test_a_pose_that_loses_the_initial_inliers_is_rejected(
    room: Any, query: Query, matcher: MutualMatcher
) -> None:
    initial = room.initial(FAR)
    pixels = torch.rand(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 200 + 20
    local = initial.camera.unproject(pixels, torch.full((50,), 2.5, dtype=torch.float64))
    points = (local - initial.pose()[:3, 3]) @ initial.pose()[:3, :3]
    initial = replace(initial, matches=Matches(pixels.numpy(), points.numpy(), np.ones(50, bool)))
    assert not GscprRefiner(matcher=matcher).refine(query, room.splat_map, initial).accepted


def test_radial_distortion_is_kept(room: Any, query: Query, matcher: MutualMatcher) -> None:
    initial = replace(room.initial(NEAR), distortion=-0.1)
    assert GscprRefiner(matcher=matcher).refine(query, room.splat_map, initial).distortion == -0.1


def test_an_exposure_solved_per_query_does_no_harm(room: Any, query: Query, matcher: MutualMatcher) -> None:
    refiner = GscprRefiner(GscprOptions(exposure="affine", rounds=1), matcher=matcher)
    estimate = refiner.refine(query, room.splat_map, room.initial(NEAR))
    assert pose_errors(estimate.cam_from_world, room.truth)[0] < 0.02


def test_the_maps_network_changes_the_rendering(room: Any, query: Query) -> None:
    network, seen = ExposureNetwork(), []
    with torch.no_grad():
        network.layers[-1].weight[3::4] = 50.0  # the bias of every colour depends on the histogram
    network.mean_histogram[:] = 0

    class Recorder:
        name = "recorder"

        def match(self, image_a: np.ndarray, image_b: np.ndarray) -> ImageMatches:
            seen.append(image_b)
            return ImageMatches(torch.zeros(0, 2), torch.zeros(0, 2), torch.zeros(0))

    GscprRefiner(GscprOptions(exposure="act"), matcher=Recorder(), exposure=network).refine(
        query, room.splat_map, room.initial(NEAR)
    )
    assert seen[0].mean() in (0.0, 255.0)


def test_a_map_without_the_network_is_one_line(matcher: MutualMatcher) -> None:
    with pytest.raises(GSplatLocError, match="expected a map with an exposure network"):
        GscprRefiner(GscprOptions(exposure="act"), matcher=matcher)


def test_no_rounds_are_refused() -> None:
    with pytest.raises(GSplatLocError, match="see --rounds"):
        GscprOptions(rounds=0)


def test_the_loss_suits_matches_that_are_all_off_by_a_pixel_and_a_half(room: Any) -> None:
    """The purpose of the wide loss: the error is nearly half that of the landmarks' narrow one."""
    errors = {0.5: [], 4.0: []}
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        pixels = 10 + torch.rand(400, 2, generator=generator, dtype=torch.float64) * 220
        camera = room.query.camera
        local = camera.unproject(pixels, 2 + torch.rand(400, generator=generator, dtype=torch.float64))
        points = (local - room.truth[:3, 3]) @ room.truth[:3, :3]
        noisy = pixels + 1.5 * torch.randn(400, 2, generator=generator, dtype=torch.float64)
        for scale, found in errors.items():
            pnp = replace(GscprOptions().pnp, loss_scale_px=scale)
            estimate = estimate_pose(noisy.numpy(), points.numpy(), camera, pnp)
            found.append(pose_errors(estimate.cam_from_world, room.truth)[0])
    assert math.fsum(errors[4.0]) < 0.85 * math.fsum(errors[0.5])
