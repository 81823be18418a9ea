"""Levenberg-Marquardt recovers a known pose in a few steps, and never trades a good one for a worse."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gsplatloc.localization.alignment import levenberg_marquardt as levenberg
from gsplatloc.localization.alignment import rendered_view as rendering
from gsplatloc.localization.alignment.blocks import (
    ContrastOptions,
    feature_block,
    inverse_depth_block,
    photometric_block,
)
from gsplatloc.localization.alignment.levenberg_marquardt import Anchor, LevenbergOptions, Term, minimise
from gsplatloc.localization.alignment.residuals import Exposure, normal_equations
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine import lm
from gsplatloc.localization.refine.lm import LmOptions, LmRefiner
from gsplatloc.localization.result import PoseEstimate, Status, pose_errors
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils import se3

PERTURBATIONS = (
    [0.02, -0.01, 0.02, 0.01, -0.01, 0.015],  # 3 cm, 1.2 degrees
    [0.05, 0.0, 0.0, 0.0, -0.02, 0.0],  # 5 cm, 1.1 degrees
    [0.0, 0.03, -0.04, -0.02, 0.02, 0.02],  # 5 cm, 2 degrees
)
FULL = LmOptions(scale=1.0)  # the room's photos are small already
NO_PRIOR = torch.zeros(6, 6, dtype=torch.float64)


@pytest.mark.parametrize("xi", PERTURBATIONS)
def test_a_known_pose_is_recovered(room: Any, xi: list[float]) -> None:
    estimate = LmRefiner(FULL).refine(room.query, room.splat_map, room.initial(xi))
    translation_m, rotation_deg = pose_errors(estimate.cam_from_world, room.truth)
    assert estimate.accepted
    assert translation_m < 0.002
    assert rotation_deg < 0.03


def test_descriptors_may_help_on_the_coarse_levels(room: Any) -> None:
    options = replace(FULL, feature_weight=1.0)
    estimate = LmRefiner(options).refine(room.query, room.splat_map, room.initial(PERTURBATIONS[1]))
    assert pose_errors(estimate.cam_from_world, room.truth)[0] < 0.004


def _exposed(query: Query) -> Query:
    image = (query.image.astype(np.float64) * 0.7 + 20).round().astype(np.uint8)
    return replace(query, image=image)


def test_another_exposure_changes_nothing(room: Any) -> None:
    estimate = LmRefiner(FULL).refine(_exposed(room.query), room.splat_map, room.initial(PERTURBATIONS[0]))
    assert pose_errors(estimate.cam_from_world, room.truth)[0] < 0.003


def test_an_object_that_the_map_does_not_know_is_ignored(room: Any) -> None:
    image = room.query.image.copy()
    image[60:140, 40:140] = (250, 30, 30)
    query = replace(room.query, image=image)
    estimate = LmRefiner(FULL).refine(query, room.splat_map, room.initial(PERTURBATIONS[0]))
    assert pose_errors(estimate.cam_from_world, room.truth)[0] < 0.004


def test_ten_steps_suffice_near_the_pose(room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []

    def counted(*arguments: Any) -> Any:
        state = minimise(*arguments)
        steps.append(state.iterations)
        return state

    monkeypatch.setattr(lm, "minimise", counted)
    near = replace(
        room.initial([0.005, 0, 0, 0, 0.003, 0]), covariance=1e-5 * torch.eye(6, dtype=torch.float64)
    )
    estimate = LmRefiner(FULL).refine(room.query, room.splat_map, near)
    assert pose_errors(estimate.cam_from_world, room.truth)[0] < 0.002
    assert sum(steps) <= 10


def test_a_certain_prior_is_hardly_moved(room: Any) -> None:
    initial = room.initial([0.01, 0, 0, 0, 0, 0])
    free = LmRefiner(FULL).refine(room.query, room.splat_map, initial)
    certain = replace(initial, covariance=1e-10 * torch.eye(6, dtype=torch.float64))
    held = LmRefiner(FULL).refine(room.query, room.splat_map, certain)
    assert pose_errors(free.pose(), initial.pose())[0] > 0.008
    assert pose_errors(held.pose(), initial.pose())[0] < 0.001


def test_a_pose_that_the_estimate_does_not_allow_is_rejected(room: Any) -> None:
    """The estimate claims to be certain but weighs nothing in the cost: the photo, taken elsewhere, wins."""
    initial = replace(
        room.initial([0.03, 0, 0, 0, 0, 0]), covariance=1e-6 * torch.eye(6, dtype=torch.float64)
    )
    options = replace(FULL, prior_weight=0.0)
    estimate = LmRefiner(options).refine(room.query, room.splat_map, initial)
    assert not estimate.accepted
    assert torch.equal(estimate.pose(), initial.pose())


def test_a_photo_of_another_place_is_rejected(room: Any) -> None:
    noise = np.random.default_rng(0).integers(0, 255, room.query.image.shape, dtype=np.uint8)
    query = replace(room.query, image=noise)
    assert not LmRefiner(FULL).refine(query, room.splat_map, room.initial(PERTURBATIONS[0])).accepted


def test_an_empty_map_is_rejected(room: Any) -> None:
    nothing = room.gaussians.select(torch.zeros(len(room.gaussians), dtype=torch.bool))
    estimate = LmRefiner(FULL).refine(room.query, SplatMap(gaussians=nothing), room.initial(PERTURBATIONS[0]))
    assert not estimate.accepted
    assert estimate.elapsed_ms > 0


def test_the_short_logarithm_is_the_logarithm_nearby() -> None:
    generator = torch.Generator().manual_seed(4)
    for size in (0.0, 1e-4, 0.01, 0.1, 0.3):
        xi = size * torch.randn(2, 6, generator=generator, dtype=torch.float64)
        a, b = se3.se3_exp(xi)
        exact = se3.se3_log(a @ se3.inverse(b))
        torch.testing.assert_close(levenberg._short_log(a, b), exact, rtol=0, atol=3e-2 * size**3 + 1e-12)


def test_a_failed_prior_is_returned_as_it_is(room: Any) -> None:
    failed = PoseEstimate(Status.TOO_FEW_MATCHES, room.query.camera)
    estimate = LmRefiner().refine(room.query, room.splat_map, failed)
    assert estimate.status is Status.TOO_FEW_MATCHES
    assert not estimate.accepted


def test_the_covariance_shrinks_with_what_the_photo_says(room: Any) -> None:
    initial = replace(
        room.initial([0.005, 0, 0, 0, 0, 0]), covariance=1e-4 * torch.eye(6, dtype=torch.float64)
    )
    estimate = LmRefiner(FULL).refine(room.query, room.splat_map, initial)
    assert estimate.covariance is not None
    assert bool((estimate.covariance.diagonal() < 1e-4).all())


def test_a_covariance_in_single_precision_is_understood(room: Any) -> None:
    initial = replace(room.initial([0.005, 0, 0, 0, 0, 0]), covariance=1e-4 * torch.eye(6))
    assert LmRefiner(FULL).refine(room.query, room.splat_map, initial).accepted


@pytest.mark.parametrize(("least", "width"), [(320, 320), (200, 200), (100, 160), (1000, 320)])
def test_a_rendering_is_half_the_photo_but_not_too_small(room: Any, least: int, width: int) -> None:
    refiner = LmRefiner(LmOptions(scale=0.5, least_side=least))
    assert refiner._render(room.query, room.gaussians, room.truth).camera.width == width


def test_without_patches_pixels_decide(room: Any) -> None:
    options = replace(FULL, patches=None)
    estimate = LmRefiner(options).refine(room.query, room.splat_map, room.initial(PERTURBATIONS[0]))
    assert pose_errors(estimate.cam_from_world, room.truth)[0] < 0.003


def test_coarse_levels_are_for_uncertain_estimates(room: Any) -> None:
    initial = room.initial(PERTURBATIONS[0])
    view = rendering.render_map(room.gaussians, initial.camera, initial.pose(), lm.RenderOptions(), 320)
    sure = replace(initial, covariance=1e-8 * torch.eye(6, dtype=torch.float64))
    assert lm._levels(view, sure, LmOptions()) == [1.0]
    assert lm._levels(view, initial, LmOptions()) == [0.25, 0.5, 1.0]


def _two_views(room: Any) -> tuple[rendering.Rendering, rendering.Rendering]:
    """A reference and a query of depth: the same room from two poses."""
    options = lm.RenderOptions()
    reference = room.initial(PERTURBATIONS[0]).pose()
    return tuple(
        rendering.render_map(room.gaussians, room.query.camera, pose, options, 320, (30, 40))
        for pose in (reference, room.truth)
    )  # type: ignore[return-value]


def test_depth_alone_recovers_a_pose(room: Any) -> None:
    reference, query = _two_views(room)
    trusted = rendering.solid(reference, 0.97, 0.005)
    block = inverse_depth_block(query.depth, reference, trusted, ContrastOptions())
    identity = torch.eye(4, dtype=torch.float64)
    state = minimise([Term(block, 1000.0, 1e-3)], identity, Anchor(identity, NO_PRIOR))
    assert pose_errors(state.pose @ reference.cam_from_world, room.truth)[0] < 0.01


def test_every_kind_of_residual_is_summed_together(room: Any) -> None:
    """What RGB-D tracking does: photometric, depth and descriptor terms in one system."""
    reference, query = _two_views(room)
    trusted = rendering.solid(reference, 0.97, 0.005)
    features = feature_block(room.query.dense, reference, trusted)
    assert features is not None
    photo = rendering.photo_grey(room.query.image, reference.camera)
    terms = [
        Term(photometric_block(photo, reference, trusted, 1.0, ContrastOptions()), 1000.0, 0.05),
        Term(inverse_depth_block(query.depth, reference, trusted, ContrastOptions()), 1000.0, 1e-3),
        Term(features, 100.0, 0.1),
    ]
    identity = torch.eye(4, dtype=torch.float64)
    state = minimise(terms, identity, Anchor(identity, NO_PRIOR), LevenbergOptions(iterations=20))
    assert pose_errors(state.pose @ reference.cam_from_world, room.truth)[0] < 0.004


def test_without_the_native_package_the_sums_are_the_same(room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reference, _ = _two_views(room)
    photo = rendering.photo_grey(room.query.image, reference.camera)
    block = photometric_block(
        photo, reference, rendering.solid(reference, 0.97, 0.005), 0.5, ContrastOptions()
    )
    # Not the identity: there every sample falls on the centre of a pixel, where the slope has two values.
    pose = se3.se3_exp(torch.tensor([0.003, 0.002, 0, 0, 0, 0.001], dtype=torch.float64))
    fast = normal_equations(block, pose, 0.3, Exposure())
    monkeypatch.setattr("gsplatloc.gaussian_renderer.native.alignment", lambda: None)
    slow = normal_equations(block, pose, 0.3, Exposure())
    torch.testing.assert_close(
        fast.hessian, slow.hessian, rtol=0, atol=1e-3 * slow.hessian.abs().max().item()
    )


def test_an_estimate_knows_how_far_its_pixels_may_move(room: Any) -> None:
    initial = room.initial(PERTURBATIONS[0])
    view = rendering.render_map(room.gaussians, initial.camera, initial.pose(), lm.RenderOptions(), 320)
    covariance = torch.zeros(6, 6, dtype=torch.float64)
    covariance[4, 4] = 0.01**2  # a turn about y moves pixels by f times the angle, and more off the axis
    moved = lm.expected_motion_px(view, replace(initial, covariance=covariance))
    assert 2.62 < moved < 4.0
