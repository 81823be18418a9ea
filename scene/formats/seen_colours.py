"""Colours as the cameras of a map see them, in formats that round spherical harmonics or leave them out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gsplatloc.scene.cameras import PosedCamera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.harmonics import Y_00, basis
from gsplatloc.utils import se3

_MOST_VIEWS = 100  # from which colours are compared, evenly chosen
_BLOCK = 16_384  # Gaussians at a time
_NEAR = 0.01  # units of the map, from the camera: nearer Gaussians are not drawn
_DAMPING = 1e-3  # squared basis functions: coefficients that hardly change a seen colour stay as they are


@dataclass(frozen=True)
class StoredHarmonics:
    """What a format makes of coefficients."""

    sh: Tensor  # [N, K, 3] as they are read back; those that are `free` as they are
    free: slice  # of the K: those of finer precision, which may take up what the others lose


def with_seen_colours(
    gaussians: Gaussians, stored: StoredHarmonics, views: Sequence[PosedCamera]
) -> Gaussians:
    """The Gaussians with `stored.sh`, whose free coefficients give back the colours that `views` see.

    With the viewing directions d_v of the views that have a Gaussian in their image, and its lost
    coefficients e = sh - stored, the change x of the free ones minimises
    sum_v w_v |Y(d_v) e - Y_free(d_v) x|^2 / sum_v w_v + damping |x|^2 in every channel, where w_v = 1 / z_v^2
    is its area in the image. Occlusion is left out. Free coefficients of a Gaussian that no view sees stay as
    they are.
    """
    views = views[:: -(-len(views) // _MOST_VIEWS)]
    changed = stored.sh.clone()
    for block in torch.arange(len(gaussians)).split(_BLOCK):
        functions = _functions(gaussians.means[block], gaussians.sh_degree, views)
        moments = torch.einsum("vnk,vnl->nkl", functions, functions)
        moments *= Y_00**2 / moments[:, :1, :1].clamp(min=1e-30)
        of_free = moments[:, stored.free]
        square = of_free[:, :, stored.free] + _DAMPING * torch.eye(of_free.shape[1])
        lost = gaussians.sh[block] - stored.sh[block]
        changed[block, stored.free] += torch.linalg.solve(square, of_free @ lost)
    return replace(gaussians, sh=changed)


def _functions(means: Tensor, degree: int, views: Sequence[PosedCamera]) -> Tensor:
    """Basis functions [V, N, K] of the directions from views to means [N, 3]; zero where one is not seen."""
    found = []
    for view in views:
        pose = view.cam_from_world.to(means)
        local = se3.transform(pose, means)
        inside = (local[:, 2] > _NEAR) & view.camera.shows(view.camera.project(local))
        directions = torch.nn.functional.normalize(means - se3.camera_center(pose), dim=1)
        found.append(basis(directions, degree) * (inside / local[:, 2].clamp(min=_NEAR))[:, None])
    return torch.stack(found)
