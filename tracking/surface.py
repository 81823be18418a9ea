"""The map of a tracked sequence: points fused from the depth of many frames, exported as Gaussians.

A point that a new frame measures again moves to the weighted mean of all measurements (Keller et al.,
"Real-time 3D reconstruction in dynamic scenes using point-based fusion", 3DV 2013). The weight is 1 / z^4, as
the noise of a structured-light or stereo sensor is proportional to z^2. Where a frame has depth without a
point, new points are added, one per cell of a grid.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.mapping.initialization import gaussians_from_points
from gsplatloc.scene.cameras import SparsePoints
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.tracking.frames import RgbdFrame
from gsplatloc.tracking.options import SurfaceOptions
from gsplatloc.utils import se3

_OPAQUE = 0.999  # an opacity of 1 has no logit; the rasterizer's alpha ends at 0.99
_NEAREST = 0.05  # metres in front of the camera
_SAME = 0.03  # maximum relative difference of depth between a point and a measurement of it
_MAX_WEIGHT = 30.0  # of earlier measurements, in measurements: older ones are forgotten


class SurfaceMap:
    """Points with colour and weight, fused frame by frame."""

    def __init__(self, options: SurfaceOptions | None = None):
        self.options = options or SurfaceOptions()
        self.means = torch.zeros(0, 3)  # world, metres
        self.rgb = torch.zeros(0, 3)  # in [0, 1]
        self.weights = torch.zeros(0)  # sums of 1 / z^4
        self.version = 0  # number of fused frames: another version has other points

    def __len__(self) -> int:
        return len(self.means)

    def add(self, frame: RgbdFrame, cam_from_world: Tensor) -> None:
        """Fuse a frame seen from a pose [4, 4]."""
        self.version += 1
        covered = self._fuse(frame, cam_from_world)
        if len(self) < self.options.max_points:
            self._extend(frame, cam_from_world, covered)

    def _fuse(self, frame: RgbdFrame, cam_from_world: Tensor) -> Tensor:
        """Move the points that the frame measures again; returns the pixels [H, W] bool that they cover."""
        inverse, camera = frame.inverse_depth, frame.camera
        covered = torch.zeros(inverse.shape, dtype=torch.bool)
        pose = cam_from_world.float()
        local = se3.transform(pose, self.means)
        index = (local[:, 2] > _NEAREST).nonzero()[:, 0]
        pixels = camera.project(local[index]).floor().long()
        inside = camera.shows(pixels)
        index, (columns, rows) = index[inside], pixels[inside].T
        seen = inverse[rows, columns]
        same = (seen * local[index, 2] - 1).abs() < _SAME
        index, columns, rows, seen = index[same], columns[same], rows[same], seen[same]
        covered[rows, columns] = True
        # The measurement lies on the point's own ray: only its depth is new.
        measured = local[index] / (seen * local[index, 2])[:, None]
        to_world = se3.inverse(cam_from_world).float()
        means = se3.transform(to_world, measured)
        self._average(index, means, _colours(frame, rows, columns), seen**4)
        return covered

    def _average(self, index: Tensor, means: Tensor, rgb: Tensor, weight: Tensor) -> None:
        old = self.weights[index].minimum(_MAX_WEIGHT * weight)
        share = (weight / (old + weight))[:, None]
        self.means[index] = torch.lerp(self.means[index], means, share)
        self.rgb[index] = torch.lerp(self.rgb[index], rgb, share)
        self.weights[index] = old + weight

    def _extend(self, frame: RgbdFrame, cam_from_world: Tensor, covered: Tensor) -> None:
        """Add a point in every cell of the grid without covered pixels around it."""
        cell = self.options.cell_px
        around = F.max_pool2d(covered.float()[None, None], 2 * (cell // 2) + 1, 1, cell // 2)[0, 0] > 0
        new = torch.zeros_like(covered)
        new[cell // 2 :: cell, cell // 2 :: cell] = True
        new &= ~around & (frame.inverse_depth > 0)
        rows, columns = new.nonzero(as_tuple=True)
        depth = 1 / frame.inverse_depth[rows, columns]
        local = frame.camera.unproject(torch.stack([columns, rows], 1) + 0.5, depth)
        to_world = se3.inverse(cam_from_world).float()
        self.means = torch.cat([self.means, se3.transform(to_world, local)])
        self.rgb = torch.cat([self.rgb, _colours(frame, rows, columns)])
        self.weights = torch.cat([self.weights, depth**-4])

    def gaussians(self) -> Gaussians:
        """Opaque isotropic Gaussians, as large as the distance to their three nearest neighbours."""
        colours = (self.rgb * 255).round().clamp(0, 255).to(torch.uint8)
        points = SparsePoints(self.means.double().numpy(), colours.numpy())
        features = torch.zeros(len(self), 0)
        return gaussians_from_points(points, 0, features, _OPAQUE, self.options.scale)


def _colours(frame: RgbdFrame, rows: Tensor, columns: Tensor) -> Tensor:
    return torch.from_numpy(frame.rgb)[rows, columns].float() / 255
