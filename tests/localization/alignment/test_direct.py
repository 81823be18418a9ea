"""Direct alignment of a rendering: levels, expected motion, and the covariance by cells of the image."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from gsplatloc.localization.alignment import direct
from gsplatloc.localization.alignment import rendered_view as rendering
from gsplatloc.localization.alignment.adam import adam_descent
from gsplatloc.localization.alignment.blocks import photometric_block
from gsplatloc.localization.alignment.direct import (
    align_with_map,
    expected_motion_px,
    grid_sums,
    level_scales,
    photometric_uncertainty,
)
from gsplatloc.localization.alignment.levenberg_marquardt import levenberg_marquardt
from gsplatloc.localization.alignment.options import AdamOptions, DirectOptions
from gsplatloc.localization.alignment.patches import with_patches
from gsplatloc.localization.alignment.rendered_view import ValidDepth
from gsplatloc.localization.alignment.residuals import Objective, State, Term
from gsplatloc.localization.pose.covariance import GridSums
from gsplatloc.utils import robust
from tests.localization.rendered_room import with_matches

START = [0.01, -0.005, 0.01, 0.004, -0.004, 0.006]
VALID = ValidDepth(0.9, 0.005)


def _aligned(room: Any) -> tuple[GridSums, State, rendering.Rendering, Objective]:
    view = rendering.render_map(room.gaussians, room.query.camera, room.initial(START).pose(), 320)
    photo = rendering.photo_grey(room.query.image, view.camera)
    objective = Objective(
        [Term(photometric_block(photo, view, rendering.valid_depth_mask(view, VALID), 1.0), 500.0, 0.05)]
    )
    state = levenberg_marquardt(objective, torch.eye(4, dtype=torch.float64))
    return grid_sums(objective, state, view), state, view, objective


def test_the_sums_of_all_cells_are_those_of_the_image(room: Any) -> None:
    sums, state, _, _ = _aligned(room)
    exposure = state.hessian[6:, 6:]
    pose_only = state.hessian[:6, :6] - state.hessian[:6, 6:] @ torch.linalg.solve(
        exposure, state.hessian[6:, :6]
    )
    correction = robust.curvature((state.equations[0].residuals / (2 * state.sigmas[0])) ** 2, 1)
    torch.testing.assert_close(sums.curvature.sum(0), correction * pose_only, rtol=1e-3, atol=1e-2)


def test_patches_add_to_the_sums(room: Any) -> None:
    sums, state, view, objective = _aligned(room)
    valid = rendering.valid_depth_mask(view, VALID)
    state, patches = with_patches(objective, state, room.query.image, view, valid)
    assert patches is not None
    more = grid_sums(objective, state, view, patches)
    assert bool((more.curvature.sum(0).diagonal() > sums.curvature.sum(0).diagonal()).all())


@pytest.mark.parametrize("minimise", (levenberg_marquardt, partial(adam_descent, options=AdamOptions())))
def test_inliers_are_those_of_the_returned_pose(room: Any, minimise: Any) -> None:
    initial = with_matches(room.initial(START), room.truth)
    found = align_with_map(room.query, room.gaussians, initial, minimise, DirectOptions())
    assert found is not None and found.matches is not None
    assert found.inliers == found.matches.inliers.sum() == 150
    assert not found.matches.inliers[::4].any()


def test_the_covariance_follows_from_the_cells_of_the_image(
    room: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors that the pixels of a cell share scatter the jackknife's poses; J^T W J does not show them."""
    found = photometric_uncertainty(room.query, room.gaussians, room.truth, 320)
    assert found is not None
    sums = grid_sums

    def shared(*arguments: Any) -> GridSums:
        exact = sums(*arguments)
        return replace(exact, gradient=5 * exact.gradient)

    monkeypatch.setattr(direct, "grid_sums", shared)
    correlated = photometric_uncertainty(room.query, room.gaussians, room.truth, 320)
    assert correlated is not None
    torch.testing.assert_close(correlated[1], found[1])
    assert bool((correlated[0].diagonal() > 10 * found[0].diagonal()).all())


@pytest.mark.parametrize(("least", "width"), [(320, 320), (200, 200), (100, 160), (1000, 320)])
def test_a_rendering_is_half_the_photo_but_not_too_small(room: Any, least: int, width: int) -> None:
    options = DirectOptions(scale=0.5, min_side=least)
    view = direct._render(room.query, room.gaussians, room.truth, options)
    assert view.camera.width == width


@pytest.mark.parametrize(("given", "most", "width"), [(480, 640, 240), (480, 200, 200), (2000, 640, 320)])
def test_of_a_shrunk_photo_the_rendering_is_half_the_photo_as_given(
    room: Any, given: int, most: int, width: int
) -> None:
    options = DirectOptions(scale=0.5, min_side=100, shrunk_side=most)
    query = replace(room.query, given_side=given)
    view = direct._render(query, room.gaussians, room.truth, options)
    assert view.camera.width == width


def test_coarse_levels_are_for_uncertain_initial_poses(room: Any) -> None:
    initial = room.initial(START)
    view = rendering.render_map(room.gaussians, initial.camera, initial.pose(), 320)
    certain = replace(initial, covariance=1e-8 * torch.eye(6, dtype=torch.float64))
    assert level_scales(view, certain) == [1.0]
    assert level_scales(view, initial) == [0.25, 0.5, 1.0]


def test_expected_image_motion_follows_from_the_covariance(room: Any) -> None:
    initial = room.initial(START)
    view = rendering.render_map(room.gaussians, initial.camera, initial.pose(), 320)
    covariance = torch.zeros(6, 6, dtype=torch.float64)
    covariance[4, 4] = 0.01**2  # a rotation about y moves pixels by f times the angle, and more off the axis
    assert 2.62 < expected_motion_px(view, replace(initial, covariance=covariance)) < 4.0
