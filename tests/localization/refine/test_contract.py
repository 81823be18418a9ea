"""The contract of refiners, for every registered one: `GSPLATLOC_PLUGINS=my_refiner.py pytest <this file>`.

Every check is a function of a refiner and a place, so that a refiner under development can be passed, too.
That refiners give on a GPU what they give on a CPU is checked by tests/device/test_localization.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from gsplatloc.localization.features import Extractor, make_extractor
from gsplatloc.localization.pose.estimates import with_inliers
from gsplatloc.localization.refine import REFINERS, Refiner, StageContext
from gsplatloc.localization.refine.members import GslocOptions
from gsplatloc.localization.result import PoseEstimate, Status
from gsplatloc.scene.splat_map import SplatMap
from tests.localization.refine.places import Place, ray_traced_place, rendered_place
from tests.localization.rendered_room import Room
from tests.localization.world import pose_errors

# Of a refiner whose defaults take too long for a test; all others, plugins included, run with their defaults.
QUICK = {"gsloc": GslocOptions(iterations=100)}
MAX_ROTATION_DEG = 0.3
MAX_ERROR_RATIO = 5.0  # of an error to the stated one


@cache
def refined(refiner: Refiner, place: Place) -> PoseEstimate:
    """What several checks look at."""
    return refiner.refine(place.query, place.splat_map, place.initial())


@cache
def refined_from_certain(refiner: Refiner, place: Place) -> PoseEstimate:
    """The same from an initial pose that states an error of 10 micrometres."""
    tiny = 1e-10 * torch.eye(6, dtype=torch.float64)
    certain = replace(place.initial(), covariance=tiny, information=torch.linalg.inv(tiny))
    return refiner.refine(place.query, place.splat_map, certain)


def is_at_truth(estimate: PoseEstimate, place: Place) -> bool:
    translation_m, rotation_deg = pose_errors(estimate.cam_from_world, place.truth)
    return estimate.accepted and translation_m < place.tolerance_m and rotation_deg < MAX_ROTATION_DEG


def is_initial(estimate: PoseEstimate, initial: PoseEstimate) -> bool:
    """Whether an estimate is the rejected or failed initial one: all but the time is the same."""
    same = replace(estimate, elapsed_ms=initial.elapsed_ms, accepted=initial.accepted)
    pairs = [(getattr(same, field.name), getattr(initial, field.name)) for field in fields(initial)]
    return not estimate.accepted and all(a is b or (np.isscalar(a) and a == b) for a, b in pairs)


def check_a_known_pose_is_recovered(refiner: Refiner, place: Place) -> None:
    estimate = refined(refiner, place)
    assert is_at_truth(estimate, place), pose_errors(estimate.cam_from_world, place.truth)
    assert estimate.elapsed_ms > 0


def check_camera_and_distortion_are_kept(refiner: Refiner, place: Place) -> None:
    distorted = replace(place.initial(), distortion=-0.01)
    estimate = refiner.refine(place.query, place.splat_map, distorted)
    assert estimate.accepted
    assert (estimate.camera, estimate.distortion) == (distorted.camera, distorted.distortion)


def check_an_estimate_without_covariance_is_refined(refiner: Refiner, place: Place) -> None:
    """As another estimator gives it: without matches, covariance and information."""
    initial = place.initial()
    bare = PoseEstimate(initial.status, initial.camera, initial.cam_from_world)
    estimate = refiner.refine(place.query, place.splat_map, bare)
    assert is_at_truth(estimate, place), pose_errors(estimate.cam_from_world, place.truth)
    assert estimate.covariance is not None


def check_inliers_and_matches_are_those_of_the_pose(refiner: Refiner, place: Place) -> None:
    """Recomputed from the matches and the pose; the initial pose has other ones."""
    estimate, initial = refined(refiner, place), place.initial()
    assert estimate.matches is not None and initial.matches is not None
    again = with_inliers(estimate.matches, estimate.camera, estimate.pose()).inliers
    np.testing.assert_array_equal(estimate.matches.inliers, again)
    assert estimate.inliers == again.sum() > initial.inliers


def check_the_covariance_is_that_of_the_pose(refiner: Refiner, place: Place) -> None:
    """Symmetric, positive, not the initial pose's, and as large as the error."""
    estimate, initial = refined(refiner, place), place.initial()
    covariance = estimate.covariance
    assert covariance is not None and initial.covariance is not None and covariance.dtype == torch.float64
    torch.testing.assert_close(covariance, covariance.T)
    assert (torch.linalg.eigvalsh(covariance) > 0).all()
    assert not torch.equal(covariance, initial.covariance)
    stated = (estimate.expected_translation_m, estimate.expected_rotation_deg)
    expected_before = (initial.expected_translation_m, initial.expected_rotation_deg)
    errors = pose_errors(estimate.cam_from_world, place.truth)
    for error, expected, before in zip(errors, stated, expected_before):
        assert expected is not None and before is not None
        assert error / MAX_ERROR_RATIO < expected < before


def check_information_is_stated_with_the_covariance(refiner: Refiner, place: Place) -> None:
    """A later stage weighs the estimate by it: symmetric, positive, more than the calibrated covariance's."""
    estimate = refined(refiner, place)
    assert estimate.information is not None and estimate.covariance is not None
    torch.testing.assert_close(estimate.information, estimate.information.T)
    assert (torch.linalg.eigvalsh(estimate.information) > 0).all()


def check_another_exposure_is_compensated_or_covered_by_the_covariance(
    refiner: Refiner, place: Place
) -> None:
    """gsloc compares colours without an exposure: its covariance must cover the error."""
    query = place.photographed(lambda image: (image * 0.7 + 20).round().astype(np.uint8))
    estimate = refiner.refine(query, place.splat_map, place.initial())
    error_m, stated_m = pose_errors(estimate.cam_from_world, place.truth)[0], estimate.expected_translation_m
    assert stated_m is not None
    assert is_at_truth(estimate, place) or error_m < 2 * stated_m, (error_m, stated_m)


def check_an_object_that_the_map_lacks_is_ignored(refiner: Refiner, place: Place) -> None:
    def covered(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        image[height // 4 : height * 7 // 12, width // 8 : width * 7 // 16] = (250, 30, 30)
        return image

    estimate = refiner.refine(place.photographed(covered), place.splat_map, place.initial())
    assert is_at_truth(estimate, place), pose_errors(estimate.cam_from_world, place.truth)


def check_a_certain_initial_pose_is_kept_or_its_covariance_not_used(refiner: Refiner, place: Place) -> None:
    """lm and warp use it as a prior: a tiny one holds the pose, which the image does not support. fine, gscpr
    and gsloc align with the image alone: the initial covariance changes no bit of their pose."""
    held, free = refined_from_certain(refiner, place), refined(refiner, place)
    moved_m = pose_errors(held.pose(), place.initial().pose())[0]
    assert free.accepted and (moved_m < 0.001 or torch.equal(held.pose(), free.pose()))


def check_a_failed_initial_pose_is_returned_as_it_is(refiner: Refiner, place: Place) -> None:
    failed = PoseEstimate(Status.NO_CONSENSUS, place.camera, inliers=5)
    estimate = refiner.refine(place.query, place.splat_map, failed)
    assert is_initial(estimate, failed)


def check_an_image_of_another_place_is_rejected(refiner: Refiner, place: Place) -> None:
    generator = np.random.default_rng(0)
    query = place.photographed(lambda image: generator.integers(0, 255, image.shape, np.uint8))
    initial = place.initial()
    estimate = refiner.refine(query, place.splat_map, initial)
    assert is_initial(estimate, initial)


def check_an_empty_map_is_rejected(refiner: Refiner, place: Place) -> None:
    gaussians = place.splat_map.described
    nothing = gaussians.select(torch.zeros(len(gaussians), dtype=torch.bool))
    initial = place.initial()
    estimate = refiner.refine(place.query, SplatMap(gaussians=nothing), initial)
    assert is_initial(estimate, initial)


def check_the_same_inputs_give_the_same_bits(refiner: Refiner, place: Place) -> None:
    """A certain initial pose is the same input where its covariance is not used: no third run is needed."""
    first, second = refined(refiner, place), refined_from_certain(refiner, place)
    if not torch.equal(first.pose(), second.pose()):
        second = refiner.refine(place.query, place.splat_map, place.initial())
    for name in ("cam_from_world", "covariance", "information"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    assert first.matches is not None and second.matches is not None
    np.testing.assert_array_equal(first.matches.pixels, second.matches.pixels)
    np.testing.assert_array_equal(first.matches.inliers, second.matches.inliers)


Check = Callable[[Refiner, Place], None]
# on both places
CHECKS_OF_A_POSE: tuple[Check, ...] = (
    check_a_known_pose_is_recovered,
    check_inliers_and_matches_are_those_of_the_pose,
    check_the_covariance_is_that_of_the_pose,
)
CHECKS: tuple[Check, ...] = (
    *CHECKS_OF_A_POSE,
    check_information_is_stated_with_the_covariance,
    check_camera_and_distortion_are_kept,
    check_an_estimate_without_covariance_is_refined,
    check_another_exposure_is_compensated_or_covered_by_the_covariance,
    check_an_object_that_the_map_lacks_is_ignored,
    check_a_certain_initial_pose_is_kept_or_its_covariance_not_used,
    check_a_failed_initial_pose_is_returned_as_it_is,
    check_an_image_of_another_place_is_rejected,
    check_an_empty_map_is_rejected,
    check_the_same_inputs_give_the_same_bits,
)


@pytest.fixture(scope="module")
def extractor() -> Iterator[Extractor]:
    yield make_extractor(device="cpu", top_k=1024)
    refined.cache_clear()
    refined_from_certain.cache_clear()


@pytest.fixture(scope="module")
def rendered(room: Room, extractor: Extractor) -> Place:
    return rendered_place(room, extractor)


@pytest.fixture(scope="module")
def ray_traced(room_scene: Path, extractor: Extractor, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return ray_traced_place(room_scene, tmp_path_factory.mktemp("cache"), extractor)


@pytest.fixture(scope="module", params=REFINERS.names())
def refiner(request: pytest.FixtureRequest, extractor: Extractor) -> Refiner:
    entry = REFINERS[request.param]
    made = entry.make(QUICK.get(request.param, entry.options()), StageContext(SplatMap(), extractor))
    assert made.name == request.param
    return made


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_in_a_place_rendered_from_its_map(refiner: Refiner, rendered: Place, check: Check) -> None:
    check(refiner, rendered)


@pytest.mark.parametrize("check", CHECKS_OF_A_POSE, ids=lambda check: check.__name__)
def test_in_a_ray_traced_place(refiner: Refiner, ray_traced: Place, check: Check) -> None:
    check(refiner, ray_traced)
