"""A photo beside renderings of the map: every pixel compared, of the Gaussians around it."""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.localization.alignment.rendered_view import luma, shrunk
from gsplatloc.localization.queries import Query
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.images import resize_rgb

LEAST_SIGMA = 0.3  # pixels; a narrower blur is none
_WIDER = 1.5  # of the view around which Gaussians are selected, relative to the camera's


@dataclass(frozen=True)
class Iterate:
    """A pose with what the rendering there looks like."""

    pose: Tensor  # [4, 4] float64
    loss: float  # mean absolute difference to the photo, colours in [0, 1]
    residual: Tensor  # [3, H, W], rendering minus photo

    @property
    def psnr(self) -> float:
        """Of the rendering against the photo, dB."""
        return -10 * math.log10(max(self.residual.square().mean().item(), 1e-12))


@dataclass(frozen=True)
class Comparison:
    """A photo and the map that it is compared with."""

    photo: Tensor  # [3, H, W] in [0, 1]
    gaussians: Gaussians
    camera: Camera  # of the photo at this size
    render_options: RenderOptions

    def residual(self, pose: Tensor) -> Tensor:
        """Rendering minus photo [3, H, W], differentiable in `pose` [4, 4] alone."""
        return render(self.gaussians, self.camera, pose, self.render_options).rgb - self.photo

    def look(self, pose: Tensor) -> tuple[Iterate, float | None]:
        """What there is to see at a pose, and its median depth; None where there is nothing."""
        result = render(self.gaussians, self.camera, pose, self.render_options)
        residual = result.rgb - self.photo
        seen = result.depth[result.alpha > 0.5]
        depth = seen.median().item() if len(seen) else None
        return Iterate(pose, residual.abs().mean().item(), residual), depth

    @torch.no_grad()
    def around(self, pose: Tensor) -> "Comparison":
        """The same with only the Gaussians that a wider view from a pose takes in: others cost as much.

        Hidden ones stay, as the camera will move: without them there were holes wherever it did.
        """
        camera, extra = self.camera, 0.5 * (_WIDER - 1)
        wide = Camera(
            round(_WIDER * camera.width), round(_WIDER * camera.height), camera.fx, camera.fy,
            camera.cx + extra * camera.width, camera.cy + extra * camera.height,
        )  # fmt: skip
        radii = render(self.gaussians, wide, pose, self.render_options).radii
        return replace(self, gaussians=self.gaussians.select(radii > 0))


def compared(query: Query, gaussians: Gaussians, scale: float, options: RenderOptions) -> Comparison:
    """The photo at a fraction of its size, and the map as that photo averaged to this size would show it.

    The low-pass filter was part of the map's training, in pixels of the photo: it shrinks with the image.
    """
    camera = query.camera
    small = shrunk(camera, round(scale * max(camera.width, camera.height)))
    rgb = torch.from_numpy(resize_rgb(query.image, small.width, small.height))
    photo = rgb.to(gaussians.means).permute(2, 0, 1).contiguous() / 255
    low_pass = options.low_pass * (small.width / camera.width) ** 2
    return Comparison(photo, gaussians.detach(), small, replace(options, low_pass=low_pass))


def blurred(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of [C, H, W]. Blurring is linear: of a difference it is the difference of both, blurred.

    Two products with banded matrices: as fast for any sigma, and the gradient is two more.
    """
    if sigma < LEAST_SIGMA:
        return image
    rows, columns = (_blur_matrix(size, sigma).to(image) for size in image.shape[1:])
    return rows @ image @ columns.T


def _blur_matrix(size: int, sigma: float) -> Tensor:
    """[size, size], every row a Gaussian of sum 1: near the border the picture ends, and does not darken."""
    index = torch.arange(size, dtype=torch.float32)
    weights = torch.exp((index[:, None] - index) ** 2 * (-0.5 / sigma**2))
    return weights / weights.sum(1, keepdim=True)


def correlation(residual: Tensor, photo: Tensor) -> float:
    """Between the grey values of photo and rendering, in [-1, 1]; 0 where either is flat."""
    pair = torch.stack([luma(residual + photo).flatten(), luma(photo).flatten()])
    pair = pair - pair.mean(1, keepdim=True)
    return F.cosine_similarity(pair[0], pair[1], dim=0).item()
