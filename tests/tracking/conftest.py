"""A textured corner seen by a moving RGB-D camera, ray-cast exactly: every pose and every depth is known."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gsplatloc.scene.cameras import Camera, View
from gsplatloc.scene.trajectory import Trajectory
from gsplatloc.tracking.frames import RgbdFrame, prepare
from gsplatloc.tracking.options import RgbdFrameOptions
from gsplatloc.utils import se3

CAMERA = Camera(160, 128, 140.0, 142.0, 78.0, 66.0)  # neither centred nor with square pixels
FRAMES = RgbdFrameOptions(side=160, levels=3)
# Planes n x = d: a back wall, a floor (y points down), a side wall.
_PLANES = np.array([[0, 0, 1.0, 2.5], [0, 1.0, 0, 0.9], [-1.0, 0, 0, 1.1]])


@dataclass(frozen=True)
class Clip:
    """Frames with their true trajectory."""

    frames: list[RgbdFrame]
    truth: Trajectory


def look(cam_from_world: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Image [H, W, 3] uint8 and depth [H, W] in metres of the corner."""
    columns, rows = np.meshgrid(np.arange(CAMERA.width) + 0.5, np.arange(CAMERA.height) + 0.5)
    rays = np.stack(
        [(columns - CAMERA.cx) / CAMERA.fx, (rows - CAMERA.cy) / CAMERA.fy, np.ones_like(rows)], -1
    )
    world_from_cam = se3.inverse(cam_from_world).numpy()
    directions, origin = rays @ world_from_cam[:3, :3].T, world_from_cam[:3, 3]
    slopes = directions @ _PLANES[:, :3].T
    distances = (_PLANES[:, 3] - _PLANES[:, :3] @ origin) / np.where(np.abs(slopes) < 1e-6, 1e-6, slopes)
    depth = np.where(distances > 0, distances, np.inf).min(-1)
    points = origin + depth[..., None] * directions
    grey = sum(
        np.sin(points @ np.array(wave) + phase)
        for phase, wave in enumerate([(9, 4, 7), (-5, 11, 3), (14, -6, 10), (3, 17, -13)])
    )
    image = np.clip(127 + 30 * grey, 0, 255).astype(np.uint8)
    return np.repeat(image[..., None], 3, 2), depth.astype(np.float32)


def make_clip(count: int = 12, noise: float = 0.0) -> Clip:
    """A clip along a curve, 2 cm and 1 degree a frame; `noise` is of the depth, times z^2."""
    steps = torch.arange(count, dtype=torch.float64)[:, None]
    velocity = torch.tensor([[0.018, -0.006, 0.008, 0.004, 0.016, -0.003]], dtype=torch.float64)
    poses = se3.se3_exp(steps * velocity + 0.002 * torch.sin(steps))
    rng = np.random.default_rng(5)
    frames = []
    for index, pose in enumerate(poses):
        image, depth = look(pose)
        depth = depth + noise * depth**2 * rng.standard_normal(depth.shape).astype(np.float32)
        frames.append(prepare(f"{index}", image, depth, CAMERA, FRAMES))
    return Clip(frames, Trajectory(np.arange(count) / 30, poses))


def clip_views(truth: Trajectory, scale: float = 1.0) -> list[View]:
    """The views of a trajectory through the corner; depth is `scale` times that of the corner."""
    views = []
    for index, pose in enumerate(truth.cam_from_world):
        image, depth = look(pose)
        loaders = partial(np.copy, image), partial(np.copy, depth * np.float32(scale))
        views.append(View(f"{index}.png", CAMERA, pose, Path(), *loaders, float(truth.timestamps[index])))
    return views


@pytest.fixture(scope="session")
def clip() -> Clip:
    return make_clip()
