"""Keyframes: samples of a frame's grey values and of its surface, as points in the world."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gsplatloc.localization.alignment.blocks import inverse_depth_block, photometric_block
from gsplatloc.localization.alignment.rendered_view import eroded
from gsplatloc.localization.alignment.residuals import ResidualBlock
from gsplatloc.scene.cameras import Camera
from gsplatloc.tracking.frames import RgbdFrame
from gsplatloc.utils import se3

_PROBES = 300  # points of a keyframe for which overlap and image motion are computed


@dataclass(frozen=True)
class Keyframe:
    """The samples with which later frames are compared, and the frame's pose."""

    cam_from_world: Tensor  # [4, 4] float64
    colour: tuple[ResidualBlock, ...]  # of each level, finest first; points in the world
    surface: ResidualBlock  # a grid over the finest level's depth; points in the world
    probes: Tensor  # [3, P] float64 in the world


def make_keyframe(frame: RgbdFrame, cam_from_world: Tensor, depths: int) -> Keyframe:
    """Choose samples: the pixel of largest gradient in every cell on each level, and `depths` depths."""
    view = frame.as_rendering(cam_from_world)
    valid = eroded(view.depth > 0)
    world_from_cam = se3.inverse(cam_from_world)
    colour = (photometric_block(frame.grey, view, valid, 0.5**level) for level in range(len(frame.levels)))
    surface = inverse_depth_block(view.depth, view, valid, depths)
    surface = _in_world(surface, world_from_cam)
    probes = surface.points[:, :: max(1, len(surface) // _PROBES)].double()
    return Keyframe(
        cam_from_world, tuple(_in_world(block, world_from_cam) for block in colour), surface, probes
    )


def overlap(keyframe: Keyframe, camera: Camera, cam_from_world: Tensor) -> float:
    """Share of a keyframe's surface that a camera at a pose has in its image."""
    local = cam_from_world[:3, :3] @ keyframe.probes + cam_from_world[:3, 3:]
    pixels = camera.project(local.T)
    size = torch.tensor([camera.width, camera.height], dtype=pixels.dtype)
    inside = (local[2] > 0) & ((pixels > 0) & (pixels < size)).all(1)
    return inside.double().mean().item() if len(inside) else 0.0


def view_shift(keyframe: Keyframe, camera: Camera, cam_from_world: Tensor) -> float:
    """Median distance between a keyframe's surface in its own image and at a pose, in radians of view."""
    if not keyframe.probes.shape[1]:
        return float("inf")
    here, there = (
        (pose[:3, :3] @ keyframe.probes + pose[:3, 3:]).T
        for pose in (keyframe.cam_from_world, cam_from_world)
    )
    moved = (camera.project(here) - camera.project(there)).norm(dim=1) / camera.fx
    return torch.where(there[:, 2] > 0, moved, torch.inf).median().item()


def _in_world(block: ResidualBlock, world_from_cam: Tensor) -> ResidualBlock:
    points = world_from_cam[:3, :3] @ block.points.double() + world_from_cam[:3, 3:]
    return replace(block, points=points.float().contiguous())
