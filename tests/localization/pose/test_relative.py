"""The relative pose of two views and its scale, on matches without noise."""

import pytest
import torch
from torch import Tensor

from gsplatloc.localization.pose.options import PnPOptions
from gsplatloc.localization.pose.relative import DepthMatches, estimate_relative, triangulated_depth
from gsplatloc.localization.result import Status
from gsplatloc.scene.cameras import PosedCamera
from gsplatloc.utils import se3
from tests.localization.world import CAMERA, TRUTH, pose_errors

COUNT = 300
OFFSET = [0.14, -0.1, 0.1, 0.08, -0.12, 0.1]  # 20 cm, 10 degrees


def reference() -> PosedCamera:
    offset = torch.tensor(OFFSET, dtype=torch.float64)
    return PosedCamera(CAMERA.resized(320, 240), se3.se3_exp(offset) @ TRUTH)


def exact_matches() -> DepthMatches:
    """Matches of a perfect matcher, with depth behind all of them."""
    view, generator = reference(), torch.Generator().manual_seed(1)
    size = torch.tensor([view.camera.width, view.camera.height])
    pixels = 10 + torch.rand(COUNT, 2, generator=generator, dtype=torch.float64) * (size - 20)
    depth = 2 + torch.rand(COUNT, generator=generator, dtype=torch.float64)
    query_from_view = TRUTH @ se3.inverse(view.cam_from_world)
    local = view.camera.unproject(pixels, depth) @ query_from_view[:3, :3].T + query_from_view[:3, 3]
    return DepthMatches(CAMERA.project(local), pixels, depth)


def unknown(matches: DepthMatches, index: Tensor) -> DepthMatches:
    depth = matches.depth.clone()
    depth[index] = 0
    return DepthMatches(matches.query, matches.reference, depth)


@pytest.mark.parametrize("known", [COUNT, 100])
def test_pose_and_scale_are_recovered_where_some_depths_are_known(known: int) -> None:
    matches = unknown(exact_matches(), torch.arange(known, COUNT))
    estimate = estimate_relative(matches, CAMERA, reference(), PnPOptions())
    translation_m, rotation_deg = pose_errors(estimate.cam_from_world, TRUTH)
    assert translation_m < 1e-3 and rotation_deg < 0.02
    assert estimate.matches is not None and len(estimate.matches) == known == estimate.inliers
    assert estimate.covariance is not None and estimate.elapsed_ms > 0


def test_without_depth_there_is_no_scale() -> None:
    matches = unknown(exact_matches(), torch.arange(COUNT))
    assert estimate_relative(matches, CAMERA, reference(), PnPOptions()).status is Status.NO_CONSENSUS


def test_few_matches_are_a_status() -> None:
    few = DepthMatches(*(values[:7] for values in vars(exact_matches()).values()))
    assert estimate_relative(few, CAMERA, reference(), PnPOptions()).status is Status.TOO_FEW_MATCHES


def test_triangulated_depths_are_exact() -> None:
    matches, view = exact_matches(), reference()
    ones = torch.ones(COUNT, dtype=torch.float64)
    rays_view, rays_query = (
        view.camera.unproject(matches.reference, ones),
        CAMERA.unproject(matches.query, ones),
    )
    depth, _ = triangulated_depth(TRUTH @ se3.inverse(view.cam_from_world), rays_view, rays_query)
    assert torch.allclose(depth, matches.depth, rtol=1e-6)


def test_parallel_rays_have_no_sine() -> None:
    rays = torch.tensor([[0.1, 0.2, 1.0]], dtype=torch.float64)
    assert triangulated_depth(torch.eye(4, dtype=torch.float64), rays, rays)[1].item() < 1e-9
