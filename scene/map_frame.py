"""The coordinates of a map: those of its scene, moved near the origin and into a unit of usual length.

Gaussians, landmarks and the rasterizer have single precision, whose steps are 0.5 m at the coordinates of UTM
(5,000 km). Lengths such as the near plane are constants for scenes in metres. So a map has coordinates of its
own, x_world = origin + unit * x_map, which differ from those of the scene only where these would lose digits
or have another unit. Scenes, pose files and results are in world coordinates, in double precision.
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from gsplatloc.scene.cameras import PosedCamera, Scene, SparsePoints, View
from gsplatloc.utils import se3
from gsplatloc.utils.console import log

_SINGLE_STEP = 2.0**-23  # relative distance between neighbouring numbers of single precision
_MAX_ROUNDING = 1e-5  # of a camera centre, relative to the cameras' spread: 0.01 pixels or less
_USUAL_DEPTHS = (0.25, 100.0)  # metres: for median depths in between, a map keeps the unit of its scene
_USUAL_DEPTH = 2.5  # other units are the power of ten that brings the median depth nearest to this
_DEPTH_VIEWS = 20  # whose depths are taken
_SINGLE_POINTS = (
    "the scene's point cloud is left out: it has single precision, too coarse so far from the origin; write"
    " it in double precision, or without the offset of the coordinates together with the poses"
)
_MIN_DEPTHS = 30  # fewer do not determine the unit


@dataclass(frozen=True)
class MapFrame:
    """The coordinates of a map in the world of its scene: x_world = origin + unit * x_map."""

    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)  # in the world
    unit: float = 1.0  # length of the map's unit in the scene's

    def __post_init__(self) -> None:
        """Raises ValueError for what a damaged config.json may hold."""
        numbers = [float(number) for number in (*self.origin, self.unit)]
        if len(numbers) != 4 or not all(map(math.isfinite, numbers)) or numbers[3] <= 0:
            raise ValueError(f"origin = {self.origin}, unit = {self.unit}")
        object.__setattr__(self, "origin", tuple(numbers[:3]))  # JSON has lists

    def __str__(self) -> str:
        return f"origin at {self.origin} of the scene, unit of {self.unit:g}"

    @property
    def is_world(self) -> bool:
        """Whether the map has the coordinates of its scene."""
        return self == MapFrame()

    def pose_in_map(self, cam_from_world: Tensor) -> Tensor:
        """Poses [..., 4, 4] of the scene's world, relative to the map."""
        return self._moved(cam_from_world, lambda center, origin: (center - origin) / self.unit)

    def pose_in_world(self, cam_from_map: Tensor) -> Tensor:
        """Poses [..., 4, 4] relative to the map, in the scene's world."""
        return self._moved(cam_from_map, lambda center, origin: center * self.unit + origin)

    def points_in_map(self, points: np.ndarray) -> np.ndarray:
        return points if self.is_world else (points - np.array(self.origin)) / self.unit

    def points_in_world(self, points: np.ndarray) -> np.ndarray:
        return points if self.is_world else points * self.unit + np.array(self.origin)

    def view_in_map(self, view: View) -> View:
        """A view with pose and depth in the map's coordinates."""
        depth = view.load_depth
        if depth is not None and self.unit != 1:
            depth = _in_unit(depth, self.unit)
        return replace(view, cam_from_world=self.pose_in_map(view.cam_from_world), load_depth=depth)

    def scene_in_map(self, scene: Scene) -> Scene:
        """A scene with poses, depth and points in the map's coordinates.

        Points of a file in single precision have lost their digits there, and are left out.
        """
        if self.is_world:
            return scene
        points = scene.points
        if points is not None and self.origin != MapFrame().origin and _single_precision(points.positions):
            log(f"warning: {_SINGLE_POINTS}", stream=sys.stderr)
            points = None
        if points is not None:
            points = SparsePoints(self.points_in_map(points.positions), points.colors)
        train, test = ([self.view_in_map(view) for view in views] for views in (scene.train, scene.test))
        return replace(scene, train=train, test=test, points=points)

    def _moved(self, pose: Tensor, move: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The poses with other camera centres, in double precision.

        Rotations are made exact: far from the origin a translation is R times millions of metres.
        """
        if self.is_world:
            return pose
        pose = pose.double()
        origin = torch.tensor(self.origin, dtype=pose.dtype, device=pose.device)
        center = -torch.linalg.solve(pose[..., :3, :3], pose[..., :3, 3])
        rotation = se3.rotation_from_quaternion(se3.quaternion_from_rotation(pose[..., :3, :3]))
        translation = -(rotation @ move(center, origin)[..., None])[..., 0]
        return se3.from_rotation_translation(rotation, translation)


def local_origin(cam_from_world: Tensor) -> tuple[float, float, float]:
    """The origin of a map with mapping views at `cam_from_world` [N, 4, 4].

    The scene's own if single precision suffices there: if its steps at the median camera centre are below
    1e-5 of the cameras' median distance from it. Else the median, rounded to the power of ten below that
    distance, so that people can read it.
    """
    centers = se3.camera_center(cam_from_world.double())
    middle = centers.median(0).values
    distances = (centers - middle).norm(dim=1)
    far = middle.abs().max().item()
    spread = distances.median().item() or distances.max().item() or 1.0  # cameras may stand in one place
    if not far * _SINGLE_STEP > _MAX_ROUNDING * spread:
        return 0.0, 0.0, 0.0
    x, y, z = (round(value, -math.floor(math.log10(spread))) for value in middle.tolist())
    return x, y, z


def usual_unit(depth: float | None) -> float:
    """The unit of a map whose scene has the median `depth`, in the scene's unit; 1 for usual or no depth."""
    if depth is None or _USUAL_DEPTHS[0] <= depth <= _USUAL_DEPTHS[1]:
        return 1.0
    return float(10.0 ** round(math.log10(depth / _USUAL_DEPTH)))


def median_depth(views: Sequence[View | PosedCamera], positions: np.ndarray) -> float | None:
    """The median depth of points [N, 3] in those views that have them in front; None if there are few."""
    depths = [np.zeros(0)]
    for view in views[:: max(1, math.ceil(len(views) / _DEPTH_VIEWS))]:
        pose, camera = view.cam_from_world.numpy(), view.camera
        local = se3.transform(pose, positions)
        local = local[local[:, 2] > 0]
        inside = camera.shows(camera.project(torch.from_numpy(local))).numpy()
        depths.append(local[inside, 2])
    together = np.concatenate(depths)
    return float(np.median(together)) if len(together) >= _MIN_DEPTHS else None


def _single_precision(positions: np.ndarray) -> bool:
    return bool((positions == positions.astype(np.float32)).all())


def _in_unit(load_depth: Callable[[], np.ndarray], unit: float) -> Callable[[], np.ndarray]:
    """Depth in another unit of length."""
    return partial(_divided, load_depth, unit)


def _divided(load_depth: Callable[[], np.ndarray], unit: float) -> np.ndarray:
    depth: np.ndarray = load_depth() / np.float32(unit)
    return depth
