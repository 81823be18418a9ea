"""Errors of trajectories that the geometry of their path does not define, and depth in another unit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gsplatloc.scene.trajectory import Trajectory
from gsplatloc.tracking.evaluation import path_scale, trajectory_error
from gsplatloc.tracking.options import TrackingOptions
from gsplatloc.tracking.run import track
from gsplatloc.tracking.sequence import RgbdSequence
from gsplatloc.utils import se3
from tests.tracking.conftest import FRAMES, clip_views, make_clip


def path(bend: float = 0.0, count: int = 50) -> torch.Tensor:
    """Poses along 2 m, `bend` metres aside in the middle, that turn by half a radian."""
    steps = torch.linspace(0, 1, count, dtype=torch.float64)[:, None]
    zero = torch.zeros_like(steps)
    turned = se3.so3_exp(torch.cat([zero, 0.5 * steps, zero], 1))
    centers = torch.cat([2 * steps, 4 * bend * steps * (1 - steps), zero], 1)
    return se3.from_rotation_translation(turned, -(turned @ centers[..., None])[..., 0])


def disturbed(poses: torch.Tensor, metres: float, degrees: float = 0.05) -> torch.Tensor:
    noise = torch.randn(len(poses), 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    size = torch.tensor([metres] * 3 + [np.radians(degrees) / 1.6] * 3, dtype=torch.float64)
    return se3.se3_exp(noise * size) @ poses


@pytest.mark.parametrize(("bend", "noise"), [(0.0, 0.0), (0.0, 0.001), (0.0, 0.02), (0.001, 0.002)])
def test_a_straight_path_has_no_aligned_angle(bend: float, noise: float) -> None:
    stamps, truth = np.arange(50) / 30, path(bend)
    error = trajectory_error(Trajectory(stamps, disturbed(truth, noise)), Trajectory(stamps, truth))
    assert error.aae_deg is None
    assert error.aae_unaligned_deg < 0.1
    assert error.ate_rmse_m < 0.04


@pytest.mark.parametrize(("bend", "noise"), [(0.3, 0.01), (0.05, 0.001)])
def test_a_bent_path_has_one(bend: float, noise: float) -> None:
    stamps, truth = np.arange(50) / 30, path(bend)
    error = trajectory_error(Trajectory(stamps, disturbed(truth, noise)), Trajectory(stamps, truth))
    assert error.aae_deg is not None and error.aae_deg < 2.0


def test_a_camera_that_only_turns_has_none() -> None:
    stamps = np.arange(9) / 30
    turning = path(count=9)
    turning[:, :3, 3] = 0
    error = trajectory_error(Trajectory(stamps, turning), Trajectory(stamps, turning))
    assert error.aae_deg is None and error.ate_rmse_m < 1e-9


def test_the_scale_of_a_path_is_that_of_its_shape() -> None:
    stamps, truth = np.arange(50) / 30, path(0.3)
    half = truth.clone()
    half[:, :3, 3] *= 0.5
    assert path_scale(Trajectory(stamps, half), Trajectory(stamps, truth)) == pytest.approx(0.5)
    elsewhere = disturbed(truth, 3.0)
    assert path_scale(Trajectory(stamps, elsewhere), Trajectory(stamps, truth)) is None
    still = path()[:1].repeat(50, 1, 1)
    assert path_scale(Trajectory(stamps, still), Trajectory(stamps, truth)) is None


@pytest.mark.parametrize("factor", [0.2, 1.0, 2.0])
def test_tracking_says_that_depth_has_another_unit_than_the_truth(
    factor: float, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gsplatloc_kernels")
    truth = make_clip(6).truth
    views = clip_views(truth, factor)
    track(RgbdSequence("clip", views, truth.timestamps, truth), replace(TrackingOptions(), frames=FRAMES))
    assert ("the tracked path is" in capsys.readouterr().err) == (factor != 1)
