"""Landmarks of a splat with descriptors that the network predicts, for the views where a camera could be."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.localization.alignment.rendered_view import shrunk
from gsplatloc.localization.landmarks.file import Landmarks
from gsplatloc.localization.splat_descriptors.neighbourhood import Projected, draw_all, project
from gsplatloc.localization.splat_descriptors.network import GRIDS, SplatEncoder
from gsplatloc.scene.cameras import Camera, PosedCamera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils import se3
from gsplatloc.utils.console import progress
from gsplatloc.utils.errors import GSplatLocError

MIN_OPACITY = 0.5  # of Gaussians that are described
MAX_SIDE = 640  # pixels of images that are described; XFeat's descriptors depend on scale
_FEWEST = 100  # landmarks; fewer are no map
_RENDERED = 160  # pixels: the longer side of the depth map that decides what is visible
_MIN_ALPHA = 0.8  # of that map where there is a surface
_SAME_DEPTH = 0.05  # relative difference between a Gaussian and the surface it belongs to
_BORDER = 8.0  # pixels: what is nearer to the image's border is left out


@dataclass(frozen=True)
class Anchors:
    """Gaussians on surfaces that a view shows."""

    index: Tensor  # [A] of the Gaussian
    xy: Tensor  # [A, 2] pixels
    z: Tensor  # [A]

    def __len__(self) -> int:
        return len(self.index)


def visible_anchors(
    gaussians: Gaussians, camera: Camera, cam_from_world: Tensor, min_opacity: float = MIN_OPACITY
) -> Anchors:
    """The Gaussians of at least `min_opacity` that a view shows: those at the rendered depth."""
    candidates = (gaussians.opacities >= min_opacity).nonzero()[:, 0]
    small = shrunk(camera, _RENDERED)
    shown = render(gaussians, small, cam_from_world, RenderOptions(sh_degree=0))
    pose = cam_from_world.to(gaussians.means)
    local = se3.transform(pose, gaussians.means[candidates])
    xy = camera.project(local)
    size = torch.tensor([camera.width, camera.height]).to(xy)
    inside = ((xy > _BORDER) & (xy < size - _BORDER)).all(1) & (local[:, 2] > 0)
    index, xy, z = candidates[inside], xy[inside], local[inside, 2]
    scale = torch.tensor([small.width / camera.width, small.height / camera.height]).to(xy)
    column, row = (xy * scale).long().T
    depth = shown.depth[row, column]
    on_surface = (shown.alpha[row, column] > _MIN_ALPHA) & ((z - depth).abs() < _SAME_DEPTH * depth)
    return Anchors(index[on_surface], xy[on_surface], z[on_surface])


@dataclass(frozen=True)
class DescribeOptions:
    """Which Gaussians are described."""

    tried: int = 400  # visible Gaussians of each view, drawn at random
    kept: int = 400  # of these, those most like keypoints
    min_opacity: float = MIN_OPACITY


@torch.no_grad()
def describe_splat(
    gaussians: Gaussians,
    views: Sequence[PosedCamera],
    encoder: SplatEncoder,
    options: DescribeOptions | None = None,
    quiet: bool = False,
) -> Landmarks:
    """Predicted landmarks of a splat, the same Gaussian once for each view that shows it.

    A landmark's direction and distances are those of its one view, whose camera the descriptor is for; images
    longer than 640 pixels are described at that length. Raises `GSplatLocError` if the views show too few
    opaque Gaussians.
    """
    options = options or DescribeOptions()
    generator = torch.Generator().manual_seed(0)
    parts = []
    for view in progress(views, len(views), "splat descriptors", quiet):
        camera = shrunk(view.camera, MAX_SIDE)
        anchors = visible_anchors(gaussians, camera, view.cam_from_world, options.min_opacity)
        drawn = torch.randperm(len(anchors), generator=generator)[: options.tried].to(anchors.index.device)
        seen = project(gaussians, camera, view.cam_from_world)
        descriptors, scores = encode(encoder, seen, anchors.xy[drawn], anchors.z[drawn])
        best = scores.topk(min(options.kept, len(scores))).indices
        positions = gaussians.means[anchors.index[drawn[best]]]
        towards = se3.camera_center(view.cam_from_world).to(positions) - positions
        parts.append((positions, descriptors[best], towards, scores[best]))
    if (count := sum(len(part[0]) for part in parts)) < _FEWEST:
        raise GSplatLocError(
            f"expected a splat with opaque Gaussians before its cameras, found {count}:"
            " lower --gsvisloc.min_opacity, or run gsplatloc from-splat"
        )
    positions, descriptors, towards, scores = (torch.cat(part) for part in zip(*parts))
    order = scores.argsort(descending=True, stable=True)
    positions, descriptors, towards = positions[order], descriptors[order], towards[order]
    distance = towards.norm(dim=1)
    return Landmarks(
        positions=positions,
        descriptors=descriptors,
        directions=towards / distance[:, None],
        distances=distance[:, None].repeat(1, 2),
        lengths=torch.ones_like(distance, dtype=torch.int32),
        extractor="",
    )


def encode(encoder: SplatEncoder, seen: Projected, xy: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Descriptors [A, 64] and scores [A] of anchors at pixels [A, 2] and depths [A]."""
    return encoder(draw_all(seen, xy, z, GRIDS))
