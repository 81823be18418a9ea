"""Cameras to look from: of a file, and on a path that passes through others smoothly."""

from pathlib import Path

import pytest
import torch

from gsplatloc.scene.cameras import Camera, PosedCamera
from gsplatloc.scene.map_frame import MapFrame
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.visualization.trajectory import cameras_of_poses, smooth_path

CAMERA = Camera(64, 48, 60.0, 61.0, 31.0, 25.0)


def posed(count: int) -> list[PosedCamera]:
    """Cameras along a gentle curve."""
    steps = torch.arange(count, dtype=torch.float64)[:, None]
    tangents = steps * torch.tensor([[0.1, 0.0, 0.02, 0.0, 0.08, 0.01]], dtype=torch.float64)
    return [PosedCamera(CAMERA, pose, f"{i}") for i, pose in enumerate(se3.se3_exp(tangents))]


def test_path_passes_through_every_keyframe() -> None:
    keyframes = posed(4)
    path = smooth_path(keyframes, frames=13)
    for index, keyframe in enumerate(keyframes):
        torch.testing.assert_close(path[4 * index].cam_from_world, keyframe.cam_from_world)


def test_path_has_no_jumps() -> None:
    path = torch.stack([c.cam_from_world for c in smooth_path(posed(40), frames=200)])
    motion = se3.se3_log(path[1:] @ se3.inverse(path[:-1])).norm(dim=1)
    assert motion.max() < 3 * motion.median()


def test_path_takes_the_short_way_between_quaternions_of_opposite_sign() -> None:
    turns = torch.deg2rad(torch.tensor([170.0, 178.0, 186.0, 194.0], dtype=torch.float64))
    tangents = torch.zeros(4, 6, dtype=torch.float64)
    tangents[:, 4] = turns
    keyframes = [PosedCamera(CAMERA, pose, str(i)) for i, pose in enumerate(se3.se3_exp(tangents))]
    path = torch.stack([c.cam_from_world for c in smooth_path(keyframes, frames=25)])
    steps = se3.so3_log(path[1:, :3, :3] @ path[:-1, :3, :3].transpose(1, 2)).norm(dim=1)
    assert torch.rad2deg(steps).max() < 2


def test_path_of_a_single_camera_stands_still() -> None:
    path = smooth_path(posed(1), frames=3)
    torch.testing.assert_close(path[2].cam_from_world, path[0].cam_from_world)


def test_path_without_cameras_is_a_users_error() -> None:
    with pytest.raises(GSplatLocError, match="found none"):
        smooth_path([], 10)


def test_pose_file_without_a_pose_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "poses.txt").write_text("# nothing was localized\n")
    with pytest.raises(GSplatLocError, match="expected poses"):
        cameras_of_poses(tmp_path / "poses.txt", CAMERA, MapFrame())


def test_focal_length_of_a_pose_file_wins(tmp_path: Path) -> None:
    (tmp_path / "poses.txt").write_text("a 1 0 0 0 0 0 0 120\nb 1 0 0 0 0 0 0\n")
    first, second = cameras_of_poses(tmp_path / "poses.txt", CAMERA, MapFrame())
    assert (first.camera.fx, first.camera.fy) == (120, 122)
    assert second.camera == CAMERA
