"""Places whose poses are known, for the contract of refiners: one rendered from its map, one ray-traced."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.localization.features import Extractor
from gsplatloc.localization.pose.estimates import with_inliers
from gsplatloc.localization.queries import Query
from gsplatloc.localization.result import Matches, PoseEstimate, Status
from gsplatloc.mapping.aggregation import aggregate_descriptors
from gsplatloc.mapping.feature_cache import FeatureCache
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import Camera, View
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils import se3
from tests.localization.rendered_room import Room

OFFSET = [0.02, -0.01, 0.02, 0.01, -0.01, 0.015]  # 3 cm, 1.2 degrees
DEVIATIONS = torch.tensor([0.02] * 3 + [0.012] * 3, dtype=torch.float64)  # of the initial pose, stated
_RIGHT, _WRONG = 100, 20  # matches of the initial pose
_NOISE_PX = 3.0  # of the right ones: whether they are inliers depends on the pose


@dataclass(frozen=True, eq=False)
class Place:
    """A map, an image taken in it at a known pose, and its true depth."""

    splat_map: SplatMap
    image: np.ndarray  # [H, W, 3] uint8
    depth: Tensor  # [H, W] metres
    camera: Camera
    truth: Tensor  # [4, 4] float64
    extractor: Extractor
    offset: float  # of the initial pose, relative to `OFFSET`
    tolerance_m: float  # of a refined pose: what the map's own errors allow

    @cached_property
    def query(self) -> Query:
        return self.photographed(lambda image: image)

    def photographed(self, change: Callable[[np.ndarray], np.ndarray]) -> Query:
        """The query whose image was changed, with the features of the changed image."""
        image = np.ascontiguousarray(change(self.image.copy()))
        features = self.extractor.extract(image)
        return Query(image, self.camera, features.keypoints, features.dense)

    def initial(self) -> PoseEstimate:
        """An estimate off by exp(`OFFSET`), with matches of which some are wrong, as landmarks give it."""
        pose = se3.se3_exp(self.offset * torch.tensor(OFFSET, dtype=torch.float64)) @ self.truth
        matches = with_inliers(self._matches(), self.camera, pose)
        covariance = torch.diag((self.offset * DEVIATIONS) ** 2)
        return PoseEstimate(
            Status.OK,
            self.camera,
            pose,
            int(matches.inliers.sum()),
            covariance,
            torch.linalg.inv(covariance),
            matches,
        )

    def _matches(self) -> Matches:
        generator = torch.Generator().manual_seed(0)
        rows, columns = (self.depth > 0).nonzero(as_tuple=True)
        chosen = torch.randperm(len(rows), generator=generator)[: _RIGHT + _WRONG]
        rows, columns = rows[chosen], columns[chosen]
        pixels = torch.stack([columns, rows], 1).double() + 0.5
        local = self.camera.unproject(pixels, self.depth[rows, columns].double())
        points = (local - self.truth[:3, 3]) @ self.truth[:3, :3]
        pixels[_RIGHT:] = pixels[_RIGHT:].roll(1, 0)
        pixels += _NOISE_PX * torch.randn(pixels.shape, generator=generator, dtype=torch.float64)
        return Matches(pixels.numpy(), points.numpy(), np.zeros(len(pixels), bool))


def rendered_place(room: Room, extractor: Extractor) -> Place:
    """The room of Gaussians without descriptors; the initial pose is 3 cm and 1.2 degrees off."""
    gaussians = replace(room.gaussians, features=torch.zeros(len(room.gaussians), 0))
    camera = room.query.camera
    with torch.no_grad():
        depth = render(gaussians, camera, room.truth, RenderOptions()).depth
    splat_map = SplatMap(gaussians=gaussians)
    return Place(
        splat_map, room.query.image, depth, camera, room.truth, extractor, offset=1.0, tolerance_m=0.015
    )


def ray_traced_place(folder: Path, cache: Path, extractor: Extractor) -> Place:
    """A test view of the ray-traced room in `folder`; the map is made of the two nearest training views.

    A disc per pixel of their depth images, with XFeat descriptors; the initial pose is 6 cm and 2.4 degrees
    off. Where opaque discs overlap on slanted surfaces the nearest one is seen: the map's texture is off by
    up to half a pixel, which moves poses by 2 cm.
    """
    scene = read_scene(folder)
    view = scene.test[2]
    center = se3.camera_center(view.cam_from_world)
    nearest = sorted(
        scene.train, key=lambda other: (se3.camera_center(other.cam_from_world) - center).norm().item()
    )[:2]
    parts = [_discs(other) for other in nearest]
    means, quaternions, log_scales, sh = (torch.cat(tensors).float() for tensors in zip(*parts))
    count = len(means)
    gaussians = Gaussians(
        means, quaternions, log_scales, torch.zeros(count), sh, features=torch.zeros(count, 0)
    )
    descriptors = aggregate_descriptors(
        gaussians, nearest, FeatureCache(cache, extractor), RenderOptions(), quiet=True
    )
    splat_map = SplatMap(gaussians=replace(gaussians, features=descriptors))
    assert view.load_depth is not None
    depth = torch.from_numpy(np.array(view.load_depth()))
    image = np.array(view.load_image())
    pose = view.cam_from_world
    return Place(splat_map, image, depth, view.camera, pose, extractor, offset=2.0, tolerance_m=0.04)


def _discs(view: View) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Means, quaternions, log scales and sh of a flat Gaussian per pixel of a view, in its surface."""
    assert view.load_depth is not None
    depth = torch.from_numpy(np.array(view.load_depth())).double()
    rows, columns = torch.meshgrid(*(torch.arange(size) + 0.5 for size in depth.shape), indexing="ij")
    pixels = torch.stack([columns.flatten(), rows.flatten()], 1).double()
    local = view.camera.unproject(pixels, depth.flatten())
    pose = view.cam_from_world
    points = ((local - pose[:3, 3]) @ pose[:3, :3]).reshape(*depth.shape, 3)
    along_x, along_y = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
    kept = (along_x.norm(dim=-1) < 0.1) & (along_y.norm(dim=-1) < 0.1)  # no depth edge
    along_x, along_y = along_x[kept], along_y[kept]
    first = F.normalize(along_x, dim=-1)
    normal = F.normalize(torch.linalg.cross(along_x, along_y), dim=-1)
    second = torch.linalg.cross(normal, first)
    sizes = torch.stack([along_x.norm(dim=-1), (along_y * second).sum(-1).abs()], 1) / 4  # half a pixel
    thin = 0.1 * sizes.amin(1, keepdim=True)
    scales = torch.cat([sizes, thin], 1).clamp(min=1e-5)
    rgb = torch.from_numpy(np.array(view.load_image()))[1:-1, 1:-1][kept].double() / 255
    quaternions = se3.quaternion_from_rotation(torch.stack([first, second, normal], -1))
    return points[1:-1, 1:-1][kept], quaternions, scales.log(), ((rgb - 0.5) / 0.28209479)[:, None]
