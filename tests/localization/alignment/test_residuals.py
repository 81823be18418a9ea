"""Objectives: every kind of residual alone and together, the prior, and the native sums."""

from typing import Any

import pytest
import torch

from gsplatloc.localization.alignment import rendered_view as rendering
from gsplatloc.localization.alignment.adam import adam_descent
from gsplatloc.localization.alignment.blocks import feature_block, inverse_depth_block, photometric_block
from gsplatloc.localization.alignment.levenberg_marquardt import levenberg_marquardt
from gsplatloc.localization.alignment.options import AdamOptions
from gsplatloc.localization.alignment.rendered_view import ValidDepth
from gsplatloc.localization.alignment.residuals import (
    GainBias,
    GaussianPrior,
    Objective,
    Term,
    cell_equations,
    noise,
    normal_equations,
    reference_cell_equations,
)
from gsplatloc.utils import se3
from tests.localization.world import pose_errors

START = [0.02, -0.01, 0.02, 0.01, -0.01, 0.015]  # 3 cm, 1.2 degrees
IDENTITY = torch.eye(4, dtype=torch.float64)
VALID = ValidDepth(0.97, 0.005)
SAMPLES = 4000


def _two_views(room: Any) -> tuple[rendering.Rendering, rendering.Rendering]:
    """A reference, and a query with depth: the same room from two poses."""
    camera = room.query.camera
    reference = room.initial(START).pose()
    return tuple(
        rendering.render_map(room.gaussians, camera, pose, 320, (30, 40)) for pose in (reference, room.truth)
    )  # type: ignore[return-value]


def _objective(room: Any) -> tuple[Objective, rendering.Rendering]:
    """The terms of RGB-D tracking, and descriptors."""
    reference, query = _two_views(room)
    valid = rendering.valid_depth_mask(reference, VALID)
    features = feature_block(room.query.dense, reference, valid)
    assert features is not None
    photo = rendering.photo_grey(room.query.image, reference.camera)
    terms = [
        Term(photometric_block(photo, reference, valid, 1.0), 1000.0, 0.05),
        Term(inverse_depth_block(query.depth, reference, valid, SAMPLES), 1000.0, 1e-3),
        Term(features, 100.0, 0.1),
    ]
    return Objective(terms), reference


def test_depth_alone_determines_a_pose(room: Any) -> None:
    objective, reference = _objective(room)
    state = levenberg_marquardt(Objective(objective.terms[1:2]), IDENTITY)
    assert pose_errors(state.pose @ reference.cam_from_world, room.truth)[0] < 0.01


def test_every_kind_of_residual_is_summed_together(room: Any) -> None:
    objective, reference = _objective(room)
    state = levenberg_marquardt(objective, IDENTITY, iterations=20)
    assert pose_errors(state.pose @ reference.cam_from_world, room.truth)[0] < 0.004


def test_adam_finds_the_same_minimum(room: Any) -> None:
    objective, reference = _objective(room)
    state = adam_descent(objective, IDENTITY, AdamOptions(lr=3e-3, iterations=250))
    assert pose_errors(state.pose @ reference.cam_from_world, room.truth)[0] < 0.004


def test_the_prior_costs_half_the_squared_mahalanobis_distance() -> None:
    information = torch.diag(torch.arange(1, 7, dtype=torch.float64))
    xi = torch.full((6,), 0.1, dtype=torch.float64)
    objective = Objective((), GaussianPrior(se3.se3_exp(-xi), information))
    assert objective.evaluate(IDENTITY, GainBias(), ()).cost == pytest.approx(0.5 * 0.01 * 21)


def test_the_gradient_of_the_prior_is_that_of_its_cost_nearby() -> None:
    information = torch.diag(torch.arange(1, 7, dtype=torch.float64))
    objective = Objective((), GaussianPrior(se3.se3_exp(torch.full((6,), 1e-3).double()), information))
    state = objective.evaluate(IDENTITY, GainBias(), ())
    for axis in range(6):
        step = torch.zeros(8, dtype=torch.float64)
        step[axis] = 1e-6
        numeric = (objective.moved(state, step).cost - objective.moved(state, -step).cost) / 2e-6
        assert state.gradient[axis].item() == pytest.approx(numeric, abs=1e-5)


def test_the_noise_of_residuals_is_their_standard_deviation() -> None:
    residuals = 0.03 * torch.randn(4000, generator=torch.Generator().manual_seed(4))
    residuals[::50] = torch.nan
    residuals[1::20] = 5.0  # outliers
    assert noise(residuals) == pytest.approx(0.03, rel=0.15)


def test_leaving_the_query_image_does_not_lower_the_cost(room: Any) -> None:
    objective, _ = _objective(room)
    start = objective.start(IDENTITY)
    outside = se3.se3_exp(torch.tensor([0, 0, 0, 0, 1.2, 0], dtype=torch.float64))
    away = objective.evaluate(outside, start.exposure, start.sigmas)
    assert away.cost > start.cost
    assert bool(away.gradient.isfinite().all())


def test_without_the_native_package_the_sums_are_the_same(room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reference, _ = _two_views(room)
    photo = rendering.photo_grey(room.query.image, reference.camera)
    block = photometric_block(photo, reference, rendering.valid_depth_mask(reference, VALID), 0.5)
    # Not the identity: there every sample falls on the centre of a pixel, where the gradient has two values.
    pose = se3.se3_exp(torch.tensor([0.003, 0.002, 0, 0, 0, 0.001], dtype=torch.float64))
    fast = normal_equations(block, pose, 0.3, GainBias())
    monkeypatch.setattr("gsplatloc.gaussian_renderer.native.alignment", lambda: None)
    slow = normal_equations(block, pose, 0.3, GainBias())
    torch.testing.assert_close(
        fast.hessian, slow.hessian, rtol=0, atol=1e-3 * slow.hessian.abs().max().item()
    )


def test_native_cells_are_those_of_the_definition_and_add_up(room: Any) -> None:
    objective, _ = _objective(room)
    pose, exposure = se3.se3_exp(torch.tensor(START, dtype=torch.float64)), GainBias(0.9, 0.1)
    for term in objective.terms:
        block, count = term.block, 9
        cells = torch.arange(len(block)) * 5 % (count - 1)  # the last one is empty
        hessian, gradient = cell_equations(block, pose, 0.3, exposure, cells, count)
        order, sizes = cells.argsort(stable=True), cells.bincount(minlength=count).tolist()
        wanted = reference_cell_equations(block.select(order), pose, 0.3, exposure, sizes)
        for found, expected in zip((hessian, gradient), wanted, strict=True):
            assert torch.allclose(found, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))
        whole = normal_equations(block, pose, 0.3, exposure)
        assert torch.allclose(
            hessian.sum(0), whole.hessian, rtol=1e-4, atol=1e-5 * float(whole.hessian.max())
        )
        assert not hessian[-1].any() and not gradient[-1].any()
        with pytest.raises(ValueError, match="expected cells below 1, found cell"):
            cell_equations(block, pose, 0.3, exposure, cells, 1)
