"""The part of a stated error that comes from the map's geometry."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.localization.landmarks.file import Landmarks
from gsplatloc.localization.landmarks.noise import MapNoise
from gsplatloc.localization.pose import reprojection
from gsplatloc.localization.pose.covariance import Grid
from gsplatloc.localization.result import PoseEstimate, Status
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils import se3

CAMERA = Camera(640, 480, 500.0, 500.0, 320.0, 240.0)
NOTHING = torch.zeros(6, 6, dtype=torch.float64)


def seen_from(center: Tensor, spread: float = 0.2, count: int = 600) -> Landmarks:
    """Landmarks 3 to 6 m before a camera at the origin, seen by mapping views near `center`."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(count, 2, generator=generator) * torch.tensor([640.0, 480.0])
    positions = CAMERA.unproject(pixels, 3 + 3 * torch.rand(count, generator=generator))
    towards = center.float() - positions
    distances = towards.norm(dim=1, keepdim=True).repeat(1, 2)
    lengths, spreads = torch.full((count,), 4, dtype=torch.int32), torch.full((count,), spread)
    return Landmarks(positions, torch.zeros(count, 0), F.normalize(towards, dim=1), distances, lengths, "",
                     (0.0, 0.0, 0.0), spreads)  # fmt: skip


def stated(landmarks: Landmarks, ray: float = 1e-3) -> tuple[float, float]:
    """Metres and radians that the map adds to a pose at the origin."""
    pose = torch.eye(4, dtype=torch.float64)
    covariance = MapNoise((0.0, 0.0), ray, landmarks).added(NOTHING, pose, CAMERA)
    return covariance[:3, :3].trace().sqrt().item(), covariance[3:, 3:].trace().sqrt().item()


def test_a_query_from_where_the_mapping_views_were_is_not_affected() -> None:
    assert max(stated(seen_from(torch.zeros(3)))) < 1e-5


def test_the_error_grows_with_the_distance_from_the_mapping_views_and_with_their_noise() -> None:
    near, far = (seen_from(torch.tensor([x, 0.0, 0.0])) for x in (0.1, 0.4))
    assert stated(far)[0] == pytest.approx(4 * stated(near)[0], rel=0.15)
    assert stated(near, 2e-3) == pytest.approx([2 * value for value in stated(near)])
    assert stated(seen_from(torch.tensor([0.1, 0.0, 0.0]), spread=0.4))[0] < 0.6 * stated(near)[0]


def test_it_is_that_of_displacements_common_to_each_ninth_of_the_image() -> None:
    """Drawn at random, along the mapping rays; the pose of least squares moves by as much as is stated."""
    ray, landmarks = 1e-3, seen_from(torch.tensor([0.3, 0.1, 0.0]))
    local = landmarks.positions.double()
    pixels = CAMERA.project(local)
    grid = Grid.over(pixels)
    cells, jacobian = grid.index(pixels).numpy(), reprojection.ray_jacobian(local.numpy())
    along = (landmarks.directions.double() * landmarks.distances[:, :1] / 0.2).numpy()
    shift = np.einsum("mij,mj->mi", jacobian[:, :, :3], along)
    solve = np.linalg.pinv(jacobian.reshape(-1, 6))
    draws = np.random.default_rng(0).normal(0, ray, (500, len(grid)))
    moves = np.stack([solve @ (draw[cells][:, None] * shift).ravel() for draw in draws])
    found = math.sqrt((moves[:, :3] ** 2).sum(1).mean()), math.sqrt((moves[:, 3:] ** 2).sum(1).mean())
    assert stated(landmarks) == pytest.approx(found, rel=0.35)


def test_nothing_is_added_where_the_map_states_no_noise_or_shows_too_little() -> None:
    aside = torch.tensor([0.3, 0.0, 0.0])
    assert stated(seen_from(aside), 0.0) == (0.0, 0.0)
    assert stated(seen_from(aside, count=10)) == (0.0, 0.0)
    away = se3.se3_exp(torch.tensor([0, 0, 0, 0, math.pi, 0], dtype=torch.float64))
    noise = MapNoise((0.0, 0.0), 1e-3, seen_from(aside))
    assert torch.equal(noise.added(NOTHING, away, CAMERA), NOTHING)


def test_a_widened_estimate_is_a_prior_with_the_error_of_the_map() -> None:
    noise = MapNoise((0.01, 0.02), 1e-3, seen_from(torch.tensor([0.3, 0.0, 0.0])))
    pose, own = torch.eye(4, dtype=torch.float64), torch.diag(torch.tensor([1e-4] * 6, dtype=torch.float64))
    estimate = PoseEstimate(Status.OK, CAMERA, pose, covariance=own, information=25 * own.inverse())
    wide = noise.widened(estimate)
    added = noise.added(NOTHING, pose, CAMERA)
    assert wide.covariance is not None and wide.information is not None
    torch.testing.assert_close(wide.covariance, own + added)
    torch.testing.assert_close(wide.information, (own / 25 + added).inverse())
    assert torch.equal(wide.pose(), pose) and estimate.covariance is own


@pytest.mark.parametrize("noise, covariance", [(MapNoise(), NOTHING + 1), (MapNoise((0.01, 0.0)), None)])
def test_an_estimate_is_not_widened_without_noise_or_covariance(
    noise: MapNoise, covariance: Tensor | None
) -> None:
    estimate = PoseEstimate(Status.OK, CAMERA, torch.eye(4, dtype=torch.float64), covariance=covariance)
    assert noise.widened(estimate) is estimate
