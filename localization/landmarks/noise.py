"""The error of a pose that comes from the map: noise of its poses, and what follows for its geometry.

Residuals of one query do not show an error that the map around it shares. The mapping poses are noisy, so
that all rays of a mapping view share one small error of rotation. A landmark that was seen under a small
parallax is then displaced along its rays, by distance * angle / parallax, and so are its neighbours, seen by
the same views. For a query near the mapping views this displacement is along its own ray, and cancels. A
query whose ray makes an angle with theirs sees the displacement times the sine of the angle. Displacements s
common to each ninth of an image move its pose by H^-1 J^T s, most along the directions that the image
determines least.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.localization.landmarks.file import Landmarks, load_geometry
from gsplatloc.localization.landmarks.guided import visible
from gsplatloc.localization.pose.covariance import Grid, symmetric_inverse, with_pose_noise
from gsplatloc.localization.pose.reprojection import ray_jacobian
from gsplatloc.localization.result import PoseEstimate
from gsplatloc.scene.cameras import Camera

_LANDMARKS = 2_048  # of a map, evenly from the most to the least often observed, that are enough
_MIN_SEEN = 20  # of these: fewer do not show how an image determines its pose
# Times the error of a ray: landmarks displaced by more are outliers of a robust cost. Chosen on held-out
# stretches of training views of three scenes at once; 3 states too little in an office, no limit too much.
_MAX_DISPLACEMENT = 5.0


@dataclass(frozen=True)
class MapNoise:
    """Standard deviations of the errors of a map; zero by default."""

    poses: tuple[float, float] = (0.0, 0.0)  # standard deviations per axis, units of the map and radians
    ray: float = 0.0  # radians per axis, by which all rays of a mapping view are off together
    landmarks: Landmarks | None = None  # some of them, without descriptors

    @classmethod
    def load(cls, path: Path) -> "MapNoise":
        """From a file of landmarks; no noise where there is no file. Raises `GSplatLocError` for others."""
        landmarks = load_geometry(path) if path.is_file() else None
        if landmarks is None:
            return cls()
        *poses, ray = landmarks.pose_noise
        step = max(1, -(-len(landmarks) // _LANDMARKS))
        some = landmarks.select(slice(None, None, step))
        return cls((poses[0], poses[1]), ray, some if ray > 0 and some.spreads is not None else None)

    def added(self, covariance: Tensor, cam_from_world: Tensor, camera: Camera) -> Tensor:
        """A covariance [6, 6] of a pose [4, 4] with the error of the map."""
        covariance = with_pose_noise(covariance, self.poses)
        if self.landmarks is None:
            return covariance
        return covariance + self.ray**2 * _displaced(self.landmarks, cam_from_world, camera)

    def widened(self, estimate: PoseEstimate) -> PoseEstimate:
        """The estimate as a prior with the error of the map; the same one without covariance or noise."""
        if estimate.covariance is None or not (self.ray or any(self.poses)):
            return estimate
        covariance = estimate.covariance.double().cpu()
        wide = self.added(covariance, estimate.pose(), estimate.camera)
        information = estimate.information
        if information is not None:
            independent = symmetric_inverse(information.double().cpu())
            information = symmetric_inverse(independent + wide - covariance)
        return replace(estimate, covariance=wide, information=information)


def _displaced(landmarks: Landmarks, cam_from_world: Tensor, camera: Camera) -> Tensor:
    """Covariance [6, 6] of a pose for ray errors of 1 radian; zero where too few landmarks are in view."""
    index = visible(landmarks, cam_from_world, camera, 0.0)
    if len(index) < _MIN_SEEN or landmarks.spreads is None:
        return torch.zeros(6, 6, dtype=torch.float64)
    pose = cam_from_world.double().cpu()
    seen = landmarks.select(index)
    local = seen.positions.double() @ pose[:3, :3].T + pose[:3, 3]
    rays = F.normalize(seen.directions.double(), dim=1) @ pose[:3, :3].T
    jacobian = ray_jacobian(local.numpy())  # [M, 2, 6]
    along = seen.distances.double().mean(1) / landmarks.spreads[index].double()
    moved = (jacobian[:, :, :3] @ (along[:, None] * rays).numpy()[:, :, None])[:, :, 0]
    size = np.minimum(np.linalg.norm(moved, axis=1) / 2**0.5, _MAX_DISPLACEMENT)  # per axis of the image
    pixels = camera.project(local)
    grid = Grid.over(pixels)
    share = size * (grid.index(pixels).numpy() == np.arange(len(grid))[:, None])  # [cells, M]
    pulls = (share @ jacobian.reshape(-1, 12)).reshape(-1, 6)  # a row per cell and axis
    rows = jacobian.reshape(-1, 6)
    moves = pulls @ symmetric_inverse(torch.from_numpy(rows.T @ rows)).numpy()
    return torch.from_numpy(moves.T @ moves)
