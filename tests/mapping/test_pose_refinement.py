"""Poses disturbed by centimetres and degrees come back; right ones stay as they are."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gsplatloc.localization.features import Keypoints, make_extractor
from gsplatloc.mapping.bundle_adjustment import Observations, PosePriors, bundle_adjust
from gsplatloc.mapping.pose_refinement import refine_poses
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import View
from gsplatloc.utils import se3

MOVED_M, TURNED_DEG = 0.02, 1.0


def disturbed(poses: Tensor, seed: int = 0) -> Tensor:
    """Camera centres moved by `MOVED_M` and cameras turned by `TURNED_DEG`, in random directions."""
    generator = torch.Generator().manual_seed(seed)
    away, axis = torch.nn.functional.normalize(
        torch.randn(2, len(poses), 3, generator=generator, dtype=torch.float64), dim=2
    )
    return se3.se3_exp(torch.cat([MOVED_M * away, math.radians(TURNED_DEG) * axis], 1)) @ poses


def errors(poses: Tensor, truth: Tensor) -> tuple[float, float]:
    """Median (metres, degrees), without alignment."""
    metres = (se3.camera_center(poses) - se3.camera_center(truth)).norm(dim=1).median()
    turned = se3.so3_log(poses[:, :3, :3] @ truth[:, :3, :3].transpose(1, 2)).norm(dim=1).median()
    return float(metres), math.degrees(float(turned))


def poses_of(views: Sequence[View]) -> Tensor:
    return torch.stack([view.cam_from_world for view in views])


@pytest.fixture(scope="module")
def room(room_path: Path) -> tuple[list[View], list[Keypoints]]:
    views = read_scene(room_path).train
    extractor = make_extractor("xfeat", "cpu", 2048)
    return views, [extractor.extract(view.load_image()).keypoints for view in views]


def test_disturbed_poses_come_back(room: tuple[list[View], list[Keypoints]]) -> None:
    views, keypoints = room
    truth = poses_of(views)
    rough = [view.with_pose(pose) for view, pose in zip(views, disturbed(truth))]
    metres, degrees = errors(poses_of(refine_poses(rough, keypoints)), truth)
    # Twelve cameras on two metres fix their common place and turn no better than this.
    assert metres < 0.75 * MOVED_M and degrees < 0.5 * TURNED_DEG


def test_right_poses_are_kept(room: tuple[list[View], list[Keypoints]]) -> None:
    views, keypoints = room
    assert torch.equal(poses_of(refine_poses(views, keypoints)), poses_of(views))


def test_views_without_matches_are_kept(room: tuple[list[View], list[Keypoints]]) -> None:
    views, keypoints = room
    assert refine_poses(views[:1], keypoints[:1]) == views[:1]


def test_bundle_adjustment_finds_poses_that_made_the_observations() -> None:
    """Twenty cameras on an arc before 200 points, observed without noise: only the priors' frame is left."""
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(200, 3, generator=generator, dtype=torch.float64) * 2 - 1
    angles = torch.linspace(-0.8, 0.8, 20, dtype=torch.float64)
    swing = torch.zeros(20, 6, dtype=torch.float64)
    swing[:, 4] = angles
    back = torch.eye(4, dtype=torch.float64)
    back[2, 3] = 4
    truth = back @ se3.se3_exp(swing)
    point = torch.arange(200).repeat_interleave(20)
    view = torch.arange(20).repeat(200)
    intrinsics = torch.tensor([500.0, 500, 320, 240], dtype=torch.float64).expand(4000, 4)
    seen = Observations(view, point, torch.zeros(4000, 2, dtype=torch.float64), intrinsics)
    observations = Observations(view, point, seen.residuals(truth, points)[0], intrinsics)
    given = disturbed(truth)
    priors = PosePriors(given, (MOVED_M, math.radians(TURNED_DEG)))
    start = points + 0.02 * torch.randn(200, 3, generator=generator, dtype=torch.float64)
    poses, moved = bundle_adjust(observations, start, given, priors, 1.0)
    common = se3.inverse(poses) @ truth  # the same for all views: the frame of the priors
    spread = se3.se3_log(common[1:] @ se3.inverse(common[:-1])).abs().max()
    assert spread < 2e-3 and errors(poses, truth)[0] < 0.5 * MOVED_M
    residuals, _ = observations.residuals(poses, moved)
    assert residuals.abs().median() < 0.02
