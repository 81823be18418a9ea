"""Dense photometric descent recovers a known pose, blurs only where it must, and stops when it is done."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gsplatloc.localization.alignment import photometric
from gsplatloc.localization.alignment.photometric import (
    _PATIENCE,
    _WINDOW,
    Iterate,
    PhotometricObjective,
    Progress,
)
from gsplatloc.localization.refine import gsloc
from gsplatloc.localization.refine.gsloc import GslocRefiner
from gsplatloc.localization.refine.members import GslocOptions
from gsplatloc.localization.result import PoseEstimate, Status
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from tests.localization.rendered_room import with_matches
from tests.localization.world import pose_errors

NEAR = [0.02, -0.01, 0.02, 0.01, -0.01, 0.015]  # 3 cm, 1.2 degrees
FAR = [0.15, 0.05, -0.1, 0.02, -0.06, 0.03]  # 19 cm, 4 degrees
OPTIONS = GslocOptions(iterations=300)


@pytest.mark.parametrize("parametrization", ("se3", "quaternion"))
def test_a_known_pose_is_recovered(room: Any, parametrization: Any) -> None:
    options = replace(OPTIONS, parametrization=parametrization)
    estimate = GslocRefiner(options).refine(room.query, room.splat_map, room.initial(NEAR))
    translation_m, rotation_deg = pose_errors(estimate.cam_from_world, room.truth)
    assert estimate.accepted
    assert translation_m < 0.003
    assert rotation_deg < 0.06


def test_a_pose_from_further_away_is_recovered(room: Any) -> None:
    estimate = GslocRefiner(OPTIONS).refine(room.query, room.splat_map, room.initial(FAR))
    assert pose_errors(estimate.cam_from_world, room.truth)[0] < 0.005


def _blurs(room: Any, monkeypatch: pytest.MonkeyPatch, options: GslocOptions) -> list[float]:
    """First blur of every search that a refinement makes."""
    blurs: list[float] = []

    def counted(pyramid: Any, unknowns: Any, start: Iterate, blur: float, options: GslocOptions) -> Iterate:
        blurs.append(blur)
        return start

    monkeypatch.setattr(gsloc, "photometric_descent", counted)
    GslocRefiner(options).refine(room.query, room.splat_map, room.initial(NEAR))
    return blurs


def test_a_picture_that_agrees_is_not_blurred(room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _blurs(room, monkeypatch, replace(OPTIONS, min_psnr=5.0)) == [0.0]


def test_a_picture_that_differs_is_searched_again_with_blur(
    room: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _blurs(room, monkeypatch, replace(OPTIONS, min_psnr=60.0, enough_correlation=2.0)) == [
        0.0,
        OPTIONS.blur,
    ]


def test_a_picture_that_correlates_is_not_searched_again(room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    options = replace(OPTIONS, min_psnr=60.0, enough_correlation=-1.0)
    assert _blurs(room, monkeypatch, options) == [0.0]


def test_a_search_ends_when_the_loss_stands_still(room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    renderings = []
    original = PhotometricObjective.residual
    monkeypatch.setattr(PhotometricObjective, "residual", lambda *a: renderings.append(0) or original(*a))
    options = replace(OPTIONS, scale=0.25, lr=1e-7, last_lr=1e-8, min_psnr=0.0)
    GslocRefiner(options).refine(room.query, room.splat_map, room.initial(NEAR))
    assert len(renderings) == _PATIENCE + 1


def test_the_blur_fades_over_the_first_half(room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sigmas: list[float] = []
    monkeypatch.setattr(photometric, "_MIN_CHANGE", 0.0)
    monkeypatch.setattr(photometric, "blurred", lambda image, sigma: sigmas.append(sigma) or image)
    options = replace(OPTIONS, iterations=8, scale=0.25, blur=0.1, min_psnr=100.0, enough_correlation=2.0)
    GslocRefiner(options).refine(room.query, room.splat_map, room.initial(NEAR))
    halved = [4.0, 3.0, 2.0]  # pixels of the picture of half the size, as long as they are enough
    assert sigmas == pytest.approx([0.0] * 8 + halved + [2.0, 0.0, 0.0, 0.0, 0.0])


def test_blurring_keeps_the_mean_of_a_flat_picture_and_spreads_a_point() -> None:
    flat = torch.full((3, 20, 30), 0.4)
    torch.testing.assert_close(photometric.blurred(flat, 3.0), flat)
    point = torch.zeros(1, 41, 41)
    point[0, 20, 20] = 1
    spread = photometric.blurred(point, 2.0)
    x = torch.arange(41) - 20.0
    assert spread.sum().item() == pytest.approx(1, abs=1e-4)
    assert (spread.sum((0, 1)) * x * x).sum().item() == pytest.approx(4, rel=0.01)


def test_nothing_but_the_pose_is_differentiated(room: Any) -> None:
    gaussians = room.gaussians.detach()
    gaussians.means.requires_grad_()
    options = replace(OPTIONS, iterations=2, scale=0.25)
    GslocRefiner(options).refine(room.query, SplatMap(gaussians=gaussians), room.initial(NEAR))
    assert gaussians.means.grad is None


def test_a_caller_without_gradients_is_served(room: Any) -> None:
    options = replace(OPTIONS, iterations=20, scale=0.25)
    with torch.no_grad():
        estimate = GslocRefiner(options).refine(room.query, room.splat_map, room.initial(NEAR))
    assert estimate.accepted


def test_a_photo_of_another_place_is_rejected(room: Any) -> None:
    noise = np.random.default_rng(0).integers(0, 255, room.query.image.shape, dtype=np.uint8)
    query = replace(room.query, image=noise)
    options = replace(OPTIONS, iterations=10, scale=0.25)
    estimate = GslocRefiner(options).refine(query, room.splat_map, room.initial(NEAR))
    assert not estimate.accepted
    assert torch.equal(estimate.pose(), room.initial(NEAR).pose())


def test_no_step_means_no_improvement(room: Any) -> None:
    options = replace(OPTIONS, iterations=0)
    assert not GslocRefiner(options).refine(room.query, room.splat_map, room.initial(NEAR)).accepted


def test_an_empty_map_is_rejected(room: Any) -> None:
    nothing = room.gaussians.select(torch.zeros(len(room.gaussians), dtype=torch.bool))
    assert (
        not GslocRefiner(OPTIONS).refine(room.query, SplatMap(gaussians=nothing), room.initial(NEAR)).accepted
    )


def test_a_failed_prior_is_returned_as_it_is(room: Any) -> None:
    failed = PoseEstimate(Status.TOO_FEW_MATCHES, room.query.camera)
    estimate = GslocRefiner().refine(room.query, room.splat_map, failed)
    assert estimate.status is Status.TOO_FEW_MATCHES
    assert not estimate.accepted


def test_the_low_pass_filter_shrinks_with_the_picture(room: Any) -> None:
    refiner = GslocRefiner(replace(OPTIONS, scale=0.5))
    sizes = refiner._sizes(room.query, room.gaussians)
    assert [tuple(size.query.shape) for size in sizes] == [(3, 120, 160), (3, 60, 80)]
    assert [size.options.low_pass for size in sizes] == pytest.approx([0.075, 0.01875])


def test_gaussians_around_a_view_draw_the_same_picture(room: Any) -> None:
    everything = GslocRefiner(OPTIONS)._sizes(room.query, room.gaussians)[0]
    selected = everything.culled(room.truth)
    assert len(selected.gaussians) < len(everything.gaussians)
    difference = selected.residual(room.truth) - everything.residual(room.truth)
    assert difference.abs().max() < 1e-5


def test_a_search_ends_where_its_loss_has_not_fallen_for_long() -> None:
    progress = Progress()
    falling = [progress.ended(1 / step) for step in range(1, 60)]
    assert not any(falling)
    jumping = [progress.ended(0.1 + 0.01 * (step % 2)) for step in range(2 * _WINDOW)]
    assert jumping.index(True) <= _WINDOW and jumping[-1]


def test_the_covariance_is_as_large_as_the_error(room: Any) -> None:
    estimate = GslocRefiner(OPTIONS).refine(room.query, room.splat_map, room.initial(NEAR))
    assert estimate.covariance is not None
    away = se3.se3_log(estimate.pose() @ se3.inverse(room.truth))
    assert (away @ torch.linalg.solve(estimate.covariance, away)).item() < 36
    assert estimate.covariance.diagonal().sqrt().max() < 0.05  # metres and radians


def test_inliers_are_those_of_the_returned_pose(room: Any) -> None:
    initial = with_matches(room.initial(NEAR), room.truth)
    estimate = GslocRefiner(OPTIONS).refine(room.query, room.splat_map, initial)
    assert estimate.accepted and estimate.matches is not None
    assert estimate.inliers == estimate.matches.inliers.sum() == 150


@pytest.mark.parametrize(
    "wrong",
    (
        *({"scale": 0.0}, {"lr": -1.0}, {"iterations": -1}, {"parametrization": "euler"}),
        {"blur": float("nan")},
    ),
)
def test_options_that_mean_nothing_are_a_user_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(GSplatLocError, match="expected"):
        GslocOptions(**wrong)
