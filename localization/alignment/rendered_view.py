"""A rendering of the map at a pose, the world points behind its pixels, and where its depth is valid."""

from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils import se3

_NEIGHBOURS = np.ones((3, 3), np.uint8)
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_DEPTH_STEP = 4  # every fourth pixel along each axis gives the median depth
_MIN_DEPTH = 1e-6  # metres; avoids a division by zero where nothing is rendered


@dataclass(frozen=True)
class ValidDepth:
    """Which rendered depths are used. RANSAC tolerates wrong ones; direct alignment needs stricter limits."""

    min_alpha: float = 0.9  # a pixel less opaque shows an unmapped part of the scene
    max_depth_step: float = 0.02  # relative second difference of inverse depth; a larger one is a depth edge


@dataclass(frozen=True)
class Rendering:
    """One rendered view together with the pose it was rendered at."""

    camera: Camera  # of rgb, depth and alpha
    cam_from_world: Tensor  # [4, 4] float64
    rgb: Tensor  # [3, H, W] in [0, 1]
    depth: Tensor  # [H, W] metres
    alpha: Tensor  # [H, W] in [0, 1]
    features: Tensor | None = None  # [D, h, w], not normalised

    def to(self, device: torch.device | str) -> "Rendering":
        """The same with its images on `device`."""
        images = {name: getattr(self, name) for name in ("rgb", "depth", "alpha", "features")}
        moved = {name: image.to(device) for name, image in images.items() if image is not None}
        return replace(self, **moved)

    @cached_property
    def grey(self) -> Tensor:
        """Luma [H, W] in [0, 1]."""
        return luma(self.rgb)


def shrunk(camera: Camera, max_side: int) -> Camera:
    """The camera over an image whose longer side is at most `max_side` pixels."""
    scale = min(1.0, max_side / max(camera.width, camera.height))
    return camera.resized(max(1, round(camera.width * scale)), max(1, round(camera.height * scale)))


def photo_grey(image: np.ndarray, camera: Camera) -> np.ndarray:
    """[H, W, 3] uint8 -> grey float32 [h, w] in [0, 1] of the camera's size, averaged where it shrinks."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if grey.shape != (camera.height, camera.width):
        grey = cv2.resize(grey, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
    return grey.astype(np.float32) / 255


def luma(rgb: Tensor) -> Tensor:
    """[3, H, W] -> [H, W]."""
    return torch.einsum("chw,c->hw", rgb, torch.tensor(_LUMA, dtype=rgb.dtype, device=rgb.device))


def to_image(rgb: Tensor) -> np.ndarray:
    """A rendering [3, H, W] in [0, 1] in the format of photos, [H, W, 3] uint8."""
    return (rgb.detach().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()


@torch.no_grad()
def render_map(
    gaussians: Gaussians,
    camera: Camera,
    cam_from_world: Tensor,
    max_side: int,
    feature_size: tuple[int, int] | None = None,
    low_pass: float = RenderOptions.low_pass,
) -> Rendering:
    """Render the map at a pose, the longer side at most `max_side` pixels; features [h, w] if asked for."""
    small = shrunk(camera, max_side)
    has_features = feature_size is not None and gaussians.features.shape[1] > 0
    options = RenderOptions(feature_size=feature_size if has_features else None, low_pass=low_pass)
    result = render(gaussians, small, cam_from_world.to(gaussians.means), options)
    return Rendering(small, cam_from_world, result.rgb, result.depth, result.alpha, result.features)


def shrunk_low_pass(camera: Camera, side: int) -> float:
    """The low-pass filter with which an image of longer side `side` looks like a photo of `camera`, averaged.

    The filter is in pixels of the photos that the map was trained on: it shrinks with the image, or every
    Gaussian would grow.
    """
    scale = side / max(camera.width, camera.height)
    return RenderOptions.low_pass * scale**2


def valid_depth_mask(rendering: Rendering, options: ValidDepth) -> Tensor:
    """Mask [H, W] bool of valid depth: opaque, and no depth edge among the 3x3 neighbours.

    Across a depth edge the alpha-weighted depth lies between the two surfaces, on neither. The test is the
    second difference of inverse depth relative to inverse depth. It is zero on any plane, also a slanted one.
    """
    opaque = (rendering.alpha > options.min_alpha) & (rendering.depth > 0)
    disparity = torch.where(
        opaque, 1 / rendering.depth.clamp(min=_MIN_DEPTH), torch.zeros_like(rendering.depth)
    )
    if disparity.device.type == "cpu":  # a tenth of torch's time
        mean = torch.from_numpy(cv2.blur(disparity.numpy(), (3, 3), borderType=cv2.BORDER_REPLICATE))
    else:
        padded = F.pad(disparity[None, None], (1, 1, 1, 1), mode="replicate")
        mean = F.avg_pool2d(padded, 3, stride=1)[0, 0]
    smooth = (disparity - mean).abs() < options.max_depth_step * disparity
    return eroded(opaque & smooth)


def eroded(mask: Tensor) -> Tensor:
    """Set [H, W] where all 3x3 neighbours are: bilinear interpolation there reads set pixels only."""
    if mask.device.type == "cpu":
        return torch.from_numpy(cv2.erode(mask.numpy().view(np.uint8), _NEIGHBOURS)).bool()
    return F.max_pool2d((~mask).float()[None, None], 3, stride=1, padding=1)[0, 0] == 0


@dataclass(frozen=True)
class Samples:
    """An image read bilinearly."""

    values: Tensor  # [N, C]
    gradients: Tensor  # [2, N, C] along x and y, per pixel: the exact ones of the interpolant
    inside: Tensor  # [N] bool, between four pixel centres
    known: Tensor  # [N] bool, all four pixels are above 0 in all channels


def bilinear(image: Tensor, x: Tensor, y: Tensor) -> Samples:
    """Read `image` [H, W, C] at pixels x, y [N], first pixel centre = 0.5; its border is repeated outside."""
    height, width, _ = image.shape
    inside = (x >= 0.5) & (y >= 0.5) & (x < width - 0.5) & (y < height - 0.5)
    a, b, c, d, fx, fy = _neighbours(image, x.nan_to_num(0.0), y.nan_to_num(0.0))
    along_x, along_y = torch.lerp(b - a, d - c, fy), torch.lerp(c - a, d - b, fx)
    known = (torch.minimum(torch.minimum(a, b), torch.minimum(c, d)) > 0).all(1)
    return Samples(a + fx * (b - a) + fy * along_y, torch.stack([along_x, along_y]), inside, known)


def sample(image: Tensor, pixels: Tensor) -> Tensor:
    """Only the values [N, C] of `bilinear`, of `image` [C, H, W] at `pixels` [N, 2]."""
    a, b, c, d, fx, fy = _neighbours(image.permute(1, 2, 0), *pixels.to(image).unbind(1))
    return torch.lerp(torch.lerp(a, b, fx), torch.lerp(c, d, fx), fy)


def _neighbours(image: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """The four pixels [N, C] around each position, row by row, and the fractions [N, 1] along x and y."""
    height, width, _ = image.shape
    x, y = (x - 0.5).clamp(0, width - 1), (y - 0.5).clamp(0, height - 1)
    column, row = x.long(), y.long()
    right, below = (column + 1).clamp(max=width - 1), (row + 1).clamp(max=height - 1)
    corners = image[row, column], image[row, right], image[below, column], image[below, right]
    return *corners, (x - column)[:, None], (y - row)[:, None]


def lift(rendering: Rendering, pixels: Tensor) -> Tensor:
    """Points [N, 3] in the rendering's camera frame behind `pixels` [N, 2] of its image.

    Inverse depth is interpolated, not depth: it is linear in the pixel over a plane.
    """
    disparity = sample(1 / rendering.depth.clamp(min=_MIN_DEPTH)[None], pixels)[:, 0]
    return rendering.camera.unproject(pixels.to(disparity), 1 / disparity)


def to_world(rendering: Rendering, local: Tensor) -> Tensor:
    """Points [N, 3] in the rendering's camera frame -> world [N, 3] float64, on the CPU."""
    rotation, translation = rendering.cam_from_world[:3, :3], rendering.cam_from_world[:3, 3]
    return (local.double().cpu() - translation) @ rotation


def inside(mask: Tensor, pixels: Tensor) -> Tensor:
    """Which `pixels` [N, 2] lie in the image where `mask` [H, W] is set."""
    height, width = mask.shape
    x, y = pixels[:, 0], pixels[:, 1]
    within = (x >= 0) & (y >= 0) & (x <= width) & (y <= height)
    return within & mask[y.long().clamp(0, height - 1), x.long().clamp(0, width - 1)]


def view_motion(view: Rendering, pose: Tensor) -> float:
    """How far a rendering's points move from its pose to `pose`, in radians of view."""
    some = view.depth[::_DEPTH_STEP, ::_DEPTH_STEP]
    known = some[some > 0]
    return motion_rad(view.cam_from_world, pose, known.median().item() if len(known) else 1.0)


def motion_rad(first: Tensor, second: Tensor, depth: float) -> float:
    """Motion between poses [4, 4] in radians of view, where the scene is `depth` metres away."""
    xi = se3.se3_log_numpy((second @ se3.inverse(first)).double().cpu().numpy())
    return float(np.linalg.norm(xi[:3]) / depth + np.linalg.norm(xi[3:]))
