"""Poses to refine from, at a chosen overlap with a query: how much of its view is seen from there too.

Overlap is the 3D intersection over union of GSLoc (Botashev et al. 2024): of the voxels that the pixels of
either view fall into, the share that both views have.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.localization.alignment.rendered_view import shrunk
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils import se3

LEVELS = tuple(0.05 + 0.6 * step / 9 for step in range(10))  # of overlap, as in the paper's Fig. 3
HALF_WIDTH = 0.3 / 9  # of a level: each pose belongs to the level nearest to its overlap
_BITS = 21  # of a voxel's index along each axis
_VOXEL = 0.05  # side, relative to the depth of the query's view
_MAX_SIDE = 128  # pixels of the renderings that voxels come from
_REACH = 2.0  # largest motion: depths of the scene, and radians
_ROLL = 0.25  # rotation about the optical axis, relative to the others: people hold cameras upright
_DRAWS = 20  # directions tried for each pose
_HALVINGS = 8  # of the distance along a direction
_MIN_OPAQUE = 0.8  # share of a pose's pixels that must show something
_MIN_DEPTH = 0.25  # nearest tenth of its pixels, relative to the query's: nearer is inside a wall


@dataclass(frozen=True)
class SampledPose:
    """A pose to refine from."""

    pose: Tensor  # [4, 4] float64
    overlap: float  # with the query's view
    level: int  # index into LEVELS


@dataclass(frozen=True)
class _View:
    """What a view shows of the map."""

    depth: Tensor  # [h, w] metres
    opaque: Tensor  # [h, w] bool
    points: Tensor  # [P, 3] world

    def voxels(self, side: float) -> Tensor:
        """Distinct keys of the voxels that the pixels fall into."""
        index = torch.floor(self.points / side).long() + (1 << (_BITS - 1))
        return torch.unique((index[:, 0] << (2 * _BITS)) | (index[:, 1] << _BITS) | index[:, 2])


class PoseSampler:
    """Draws poses around the view of one query."""

    def __init__(self, gaussians: Gaussians, camera: Camera, truth: Tensor, seed: int = 0):
        self._gaussians, self._truth = gaussians, truth.double()
        self._camera = shrunk(camera, _MAX_SIDE)
        self._generator = torch.Generator().manual_seed(seed)
        seen = self._view(self._truth)
        self.depth = seen.depth[seen.opaque].median().item() if bool(seen.opaque.any()) else 1.0
        self._side = _VOXEL * self.depth
        self._voxels = seen.voxels(self._side)

    def overlap(self, pose: Tensor) -> float:
        """3D intersection over union of the views at `pose` [4, 4] and at the truth, in [0, 1]."""
        return self._overlap(self._view(pose))

    def poses(self) -> Iterator[SampledPose]:
        """One pose of each level that can be reached, least overlap first."""
        for level in range(len(LEVELS)):
            if (sampled := self._at_level(level)) is not None:
                yield sampled

    def _at_level(self, level: int) -> SampledPose | None:
        for _ in range(_DRAWS):
            direction = self._direction()
            near, far = 0.0, _REACH
            for _ in range(_HALVINGS):
                size = 0.5 * (near + far)
                pose = se3.se3_exp(size * direction) @ self._truth
                seen = self._view(pose)
                overlap = self._overlap(seen)
                if abs(overlap - LEVELS[level]) <= HALF_WIDTH:
                    if self._possible(seen):
                        return SampledPose(pose, overlap, level)
                    break
                near, far = (size, far) if overlap > LEVELS[level] else (near, size)
        return None

    def _direction(self) -> Tensor:
        """A tangent [6] of length 1 in depths and radians: shift and turn in a random mixture."""
        shift, turn = torch.randn(2, 3, generator=self._generator, dtype=torch.float64)
        turn[2] *= _ROLL
        mixture = 0.5 * math.pi * torch.rand(1, generator=self._generator, dtype=torch.float64)
        shift, turn = shift / shift.norm(), turn / turn.norm()
        return torch.cat([mixture.cos() * self.depth * shift, mixture.sin() * turn])

    def _possible(self, seen: _View) -> bool:
        """Whether a camera may be there: it sees something, and not from inside a wall."""
        if seen.opaque.float().mean().item() < _MIN_OPAQUE:
            return False
        return torch.quantile(seen.depth[seen.opaque], 0.1).item() > _MIN_DEPTH * self.depth

    def _overlap(self, seen: _View) -> float:
        found = seen.voxels(self._side)
        both = int(torch.isin(found, self._voxels).sum())
        return both / max(len(found) + len(self._voxels) - both, 1)

    @torch.no_grad()
    def _view(self, pose: Tensor) -> _View:
        result = render(self._gaussians, self._camera, pose, RenderOptions())
        opaque = result.alpha > 0.5
        rows, columns = opaque.nonzero(as_tuple=True)
        pixels = torch.stack([columns, rows], 1).double() + 0.5
        local = self._camera.unproject(pixels, result.depth[opaque].double())
        points = (local - pose[:3, 3].double()) @ pose[:3, :3].double()
        return _View(result.depth, opaque, points)
