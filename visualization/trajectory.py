"""Cameras to render a map from: those of its test images, of a file of poses, or on a smooth path.

They are in the map's coordinates.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.localization.io.poses import read_poses
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import Camera, PosedCamera
from gsplatloc.scene.map_config import read_config
from gsplatloc.scene.map_frame import MapFrame
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError


def test_cameras(map_dir: Path | str) -> list[PosedCamera]:
    """The cameras of the test images of a map's scene."""
    config = read_config(map_dir)
    scene = config.frame.scene_in_map(read_scene(config.source_path, config.scene))
    if not scene.test:
        raise GSplatLocError(
            f"expected test images in {scene.root}, found none: choose --split train or path"
        )
    return [PosedCamera(view.camera, view.cam_from_world, view.name) for view in scene.test]


def cameras_of_poses(path: Path | str, camera: Camera, frame: MapFrame) -> list[PosedCamera]:
    """The poses of a file `name qw qx qy qz tx ty tz [focal]`, through `camera`, with their focal length."""
    records = read_poses(path).values()
    if not records:
        raise GSplatLocError(f"expected poses in {path}, found none: pass a file with a line per camera")
    return [
        PosedCamera(_with_focal(camera, r.focal), frame.pose_in_map(r.cam_from_world), r.name)
        for r in records
    ]


def smooth_path(keyframes: Sequence[PosedCamera], frames: int, spacing: int = 6) -> list[PosedCamera]:
    """`frames` cameras on a Catmull-Rom spline through every `spacing`-th of the `keyframes`, in their order.

    Quaternions are splined on one hemisphere and normalised, which is smooth for neighbouring views.
    """
    if not keyframes:
        raise GSplatLocError("expected cameras for a path, found none: run gsplatloc train again")
    knots = [*keyframes[::spacing]] if len(keyframes) > 2 * spacing else [*keyframes]
    poses = torch.stack([knot.cam_from_world for knot in knots])
    values = torch.cat(
        [se3.camera_center(poses), _aligned(se3.quaternion_from_rotation(poses[:, :3, :3]))], 1
    )
    times = torch.linspace(0, len(knots) - 1, frames, dtype=torch.float64)
    splined = _catmull_rom(values, times)
    rotation = se3.rotation_from_quaternion(splined[:, 3:])
    translation = -(rotation @ splined[:, :3, None])[..., 0]
    path = se3.from_rotation_translation(rotation, translation)
    return [PosedCamera(knots[0].camera, pose, f"{index:05d}") for index, pose in enumerate(path)]


def _with_focal(camera: Camera, focal: float | None) -> Camera:
    if focal is None:
        return camera
    return Camera(camera.width, camera.height, focal, focal * camera.fy / camera.fx, camera.cx, camera.cy)


def _aligned(quaternions: Tensor) -> Tensor:
    """The same rotations [N, 4], neighbouring quaternions on the same hemisphere."""
    agree = (quaternions[1:] * quaternions[:-1]).sum(1) >= 0
    flips = torch.where(agree, 1.0, -1.0).to(quaternions)
    return quaternions * torch.cat([torch.ones_like(quaternions[:1, 0]), flips.cumprod(0)])[:, None]


def _catmull_rom(knots: Tensor, times: Tensor) -> Tensor:
    """Uniform Catmull-Rom spline through `knots` [K, D] at `times` [T] in [0, K - 1] -> [T, D]."""
    padded = F.pad(knots.T[None], (1, 2), mode="replicate")[0].T
    start = times.floor().long().clamp(0, len(knots) - 1)
    t = (times - start)[:, None]
    before, here, after, beyond = (padded[start + offset] for offset in range(4))
    return here + 0.5 * t * (
        (after - before)
        + t * (2 * before - 5 * here + 4 * after - beyond + t * (3 * (here - after) + beyond - before))
    )
