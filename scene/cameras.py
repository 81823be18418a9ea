"""Pinhole cameras and posed views.

Pixels: the image corner is (0, 0), the centre of the first pixel (0.5, 0.5), as in COLMAP. A scene's views
are always pinhole: readers undo lens distortion when an image is decoded.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gsplatloc.utils import se3


@dataclass(frozen=True)
class Camera:
    """A pinhole camera; the principal point may be anywhere and fx may differ from fy."""

    width: int  # pixels
    height: int  # pixels
    fx: float  # pixels
    fy: float  # pixels
    cx: float  # pixels, from the image corner
    cy: float  # pixels, from the image corner

    def resized(self, width: int, height: int) -> "Camera":
        """The same camera over an image resampled to `width` x `height` (corners stay corners)."""
        sx, sy = width / self.width, height / self.height
        return Camera(width, height, self.fx * sx, self.fy * sy, self.cx * sx, self.cy * sy)

    def matrix(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """The calibration matrix K [3, 3]."""
        return torch.tensor([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], dtype=dtype)

    def project(self, points: Tensor) -> Tensor:
        """Points [N, 3] in the camera frame -> pixels [N, 2], which are meaningless for z <= 0."""
        xy = points[:, :2] / points[:, 2:]
        return torch.stack([xy[:, 0] * self.fx + self.cx, xy[:, 1] * self.fy + self.cy], 1)

    def shows(self, pixels: Tensor) -> Tensor:
        """Which pixels [N, 2] are within the image: [N] bool."""
        return ((pixels >= 0) & (pixels < pixels.new_tensor([self.width, self.height]))).all(1)

    def unproject(self, pixels: Tensor, depth: Tensor) -> Tensor:
        """Pixels [N, 2] and depths z [N] in metres -> points [N, 3] in the camera frame."""
        x = (pixels[:, 0] - self.cx) / self.fx
        y = (pixels[:, 1] - self.cy) / self.fy
        return torch.stack([x * depth, y * depth, depth], 1)


@dataclass(frozen=True)
class View:
    """A posed image that stays on disk until `load_image` decodes it."""

    name: str  # unique within its scene, with forward slashes
    camera: Camera  # pinhole, of the image that `load_image` returns
    cam_from_world: Tensor  # [4, 4] float64
    image_path: Path
    load_image: Callable[[], np.ndarray]  # -> [H, W, 3] uint8 RGB of camera.height x camera.width
    load_depth: Callable[[], np.ndarray] | None = None  # -> [H, W] float32 metres, 0 where unknown
    load_mask: Callable[[], np.ndarray] | None = None  # -> [H, W] bool, False where the image is not used
    timestamp: float | None = None  # seconds; None if the layout has no timestamps

    def with_pose(self, cam_from_world: Tensor) -> "View":
        return replace(self, cam_from_world=cam_from_world)


@dataclass(frozen=True)
class PosedCamera:
    """A view without its image: a camera and its pose."""

    camera: Camera
    cam_from_world: Tensor  # [4, 4] float64
    name: str = ""  # of the view, if it has one


@dataclass(frozen=True)
class SparsePoints:
    """A sparse point cloud, for example of structure from motion."""

    positions: np.ndarray  # [N, 3] float64, world
    colors: np.ndarray  # [N, 3] uint8 RGB

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True)
class PoseConvention:
    """The convention of the poses in the files of a layout."""

    camera_to_world: bool = True
    opengl_axes: bool = False  # of the camera: y up, z backward; otherwise OpenCV's, y down, z forward
    quaternion: str | None = None  # "wxyz" or "xyzw"; None for matrices

    def __str__(self) -> str:
        direction = "camera-to-world" if self.camera_to_world else "world-to-camera"
        axes = "OpenGL axes (y up, z backward)" if self.opengl_axes else "OpenCV axes (y down, z forward)"
        return f"{direction} with {axes}" + (f" and quaternions {self.quaternion}" if self.quaternion else "")

    def others(self) -> list["PoseConvention"]:
        """The conventions that this one may be confused with."""
        orders = (None,) if self.quaternion is None else ("wxyz", "xyzw")
        every = product((True, False), (True, False), orders)
        return [other for kind in every if (other := PoseConvention(*kind)) != self]

    def reread(self, cam_from_world: Tensor, other: "PoseConvention") -> Tensor:
        """A pose [4, 4] of this convention in another one."""
        stored = self._turned(cam_from_world)
        stored = se3.inverse(stored) if self.camera_to_world else stored
        if other.quaternion != self.quaternion:
            quaternion = se3.quaternion_from_rotation(stored[:3, :3])
            quaternion = quaternion.roll(1 if self.quaternion == "wxyz" else -1)
            stored = se3.from_rotation_translation(se3.rotation_from_quaternion(quaternion), stored[:3, 3])
        return other._turned(se3.inverse(stored) if other.camera_to_world else stored)

    def _turned(self, cam_from_world: Tensor) -> Tensor:
        """From the axes of this convention to OpenCV's, or back."""
        flip = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=cam_from_world.dtype))
        return flip @ cam_from_world if self.opengl_axes else cam_from_world


@dataclass(frozen=True)
class Scene:
    """The result of a reader: training and test views and, if the layout has one, a sparse point cloud."""

    name: str
    root: Path
    train: list[View]
    test: list[View]
    points: SparsePoints | None = None
    report: str = ""  # one line: what the reader found, used and left out, and why
    convention: PoseConvention = field(default_factory=PoseConvention)  # of the poses in its files
    rough_poses: bool = False  # whether they are those of a phone's tracking, off by centimetres

    def __repr__(self) -> str:
        views = f"{len(self.train)} training views, {len(self.test)} test views"
        points = "" if self.points is None else f", {len(self.points)} points"
        return f"Scene({self.name!r}, {str(self.root)!r}, {views}{points})"
