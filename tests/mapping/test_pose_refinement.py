"""Poses disturbed by centimetres and degrees come back; right ones stay as they are."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gsplatloc.localization.features import Keypoints, make_extractor
from gsplatloc.localization.pose.distortion import largest_radius
from gsplatloc.mapping.bundle_adjustment import Model, Observations, PosePriors, bundle_adjust
from gsplatloc.mapping.pose_refinement import _radial_sigma, refine_poses
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import Camera, View
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


def test_disturbed_poses_of_two_lenses_come_back(
    room: tuple[list[View], list[Keypoints]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Every second image is the middle of the first lens's, enlarged 1.25 times."""
    views, keypoints = (list(each) for each in room)
    truth = poses_of(views)
    views = [view.with_pose(pose) for view, pose in zip(views, disturbed(truth))]
    for index in range(0, len(views), 2):
        views[index], keypoints[index] = enlarged(views[index], keypoints[index], 1.25)
    metres, degrees = errors(poses_of(refine_poses(views, keypoints, quiet=False)), truth)
    assert metres < 0.75 * MOVED_M and degrees < 0.5 * TURNED_DEG
    lines = capsys.readouterr()
    assert "after refinement" in lines.out + lines.err
    assert "distortion" not in lines.out + lines.err


def enlarged(view: View, found: Keypoints, scale: float) -> tuple[View, Keypoints]:
    """A view by a lens of longer focal length, on an image of the same size."""
    camera = view.camera
    size, center = torch.tensor([camera.width, camera.height]), torch.tensor([camera.cx, camera.cy])
    xy = ((found.xy - center) * scale + center).float()
    inside = ((xy >= 0) & (xy < size)).all(1)
    zoomed = replace(camera, fx=camera.fx * scale, fy=camera.fy * scale)
    kept = Keypoints(xy[inside], found.descriptors[inside], found.scores[inside])
    return replace(view, camera=zoomed), kept


def test_right_poses_are_kept(room: tuple[list[View], list[Keypoints]]) -> None:
    views, keypoints = room
    assert torch.equal(poses_of(refine_poses(views, keypoints)), poses_of(views))


def test_views_without_matches_are_kept(room: tuple[list[View], list[Keypoints]]) -> None:
    views, keypoints = room
    assert refine_poses(views[:1], keypoints[:1]) == views[:1]


@pytest.mark.parametrize(("radial", "sigma"), [(0.0, 0.1), (-0.05, 0.1), (0.0, 0.0)])
def test_bundle_adjustment_finds_poses_and_lens_that_made_the_observations(
    radial: float, sigma: float
) -> None:
    """Twenty cameras on an arc before 200 points, observed without noise: only the priors' frame is left."""
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(200, 3, generator=generator, dtype=torch.float64) * 2 - 1
    angles = torch.linspace(-0.8, 0.8, 20, dtype=torch.float64)
    swing = torch.zeros(20, 6, dtype=torch.float64)
    swing[:, 4] = angles
    back = torch.eye(4, dtype=torch.float64)
    back[2, 3] = 4
    truth = Model(back @ se3.se3_exp(swing), points, radial)
    point = torch.arange(200).repeat_interleave(20)
    view = torch.arange(20).repeat(200)
    intrinsics = torch.tensor([500.0, 500, 320, 240], dtype=torch.float64).expand(4000, 4)
    seen = Observations(view, point, torch.zeros(4000, 2, dtype=torch.float64), intrinsics)
    observations = Observations(view, point, seen.residuals(truth)[0], intrinsics)
    given = disturbed(truth.poses)
    priors = PosePriors(given, (MOVED_M, math.radians(TURNED_DEG)), sigma)
    start = points + 0.02 * torch.randn(200, 3, generator=generator, dtype=torch.float64)
    found = bundle_adjust(observations, Model(given, start), priors, 1.0)
    common = se3.inverse(found.poses) @ truth.poses  # the same for all views: the frame of the priors
    spread = se3.se3_log(common[1:] @ se3.inverse(common[:-1])).abs().max()
    assert spread < 2e-3 and errors(found.poses, truth.poses)[0] < 0.5 * MOVED_M
    assert observations.residuals(found)[0].abs().median() < 0.02
    assert found.radial == pytest.approx(radial, abs=1e-3 if sigma else 0.0)


@pytest.mark.parametrize(
    ("cameras", "sigma"),
    [
        ([Camera(640, 480, 500, 500, 320, 240)] * 2, 0.1),
        ([Camera(640, 480, 500, 500, 320, 240), Camera(640, 480, 510, 510, 321.5, 239)], 0.1),  # in focus
        ([Camera(640, 480, 500, 500, 320, 240), Camera(640, 480, 800, 800, 320, 240)], 0.0),
        ([Camera(640, 480, 500, 500, 320, 240), Camera(480, 640, 500, 500, 240, 320)], 0.0),
    ],
)
def test_a_distortion_is_estimated_of_one_lens(
    room: tuple[list[View], list[Keypoints]], cameras: list[Camera], sigma: float
) -> None:
    views = [replace(view, camera=camera) for view, camera in zip(room[0], cameras)]
    assert _radial_sigma(views) == sigma


def test_the_distortion_of_a_wide_lens_shows_no_point_twice(room: tuple[list[View], list[Keypoints]]) -> None:
    wide = Camera(640, 480, 200, 200, 320, 240)
    sigma = _radial_sigma([replace(room[0][0], camera=wide)])
    assert largest_radius(-3 * sigma) >= math.hypot(1.6, 1.2)


def test_jacobians_are_the_derivatives_of_the_residuals() -> None:
    generator = torch.Generator().manual_seed(2)
    points = torch.rand(8, 3, generator=generator, dtype=torch.float64) + torch.tensor([-0.5, -0.5, 2.0])
    model = Model(disturbed(torch.eye(4, dtype=torch.float64).expand(1, 4, 4)), points, -0.1)
    intrinsics = torch.tensor([500.0, 480, 320, 240], dtype=torch.float64).expand(8, 4)
    pixels = torch.zeros(8, 2, dtype=torch.float64)
    observations = Observations(torch.zeros(8, dtype=torch.int64), torch.arange(8), pixels, intrinsics)
    before, seen = observations.residuals(model)
    of_pose, of_point, of_radial = observations.jacobians(model, seen)
    tangent, step = torch.randn(2, 8, 6, generator=generator, dtype=torch.float64) * 1e-6
    pose = se3.se3_exp(tangent[:1]) @ model.poses
    moved = Model(pose, points + step[:, :3], model.radial + 1e-6)
    found = observations.residuals(moved)[0] - before
    expected = of_pose @ tangent[0, :, None] + of_point @ step[:, :3, None] + of_radial * 1e-6
    torch.testing.assert_close(found, expected[..., 0], rtol=1e-4, atol=1e-8)
