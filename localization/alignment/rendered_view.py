"""The map as seen from an estimate, and the world points behind its pixels."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils import se3

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


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

    @property
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
    """A rendering [3, H, W] in [0, 1] as a photo is kept, [H, W, 3] uint8."""
    return (rgb.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()


@torch.no_grad()
def render_map(
    gaussians: Gaussians,
    camera: Camera,
    cam_from_world: Tensor,
    options: RenderOptions,
    max_side: int,
    feature_size: tuple[int, int] | None = None,
) -> Rendering:
    """Render the map at a pose, its longer side at most `max_side` pixels; features [h, w] as asked."""
    small = shrunk(camera, max_side)
    has_features = feature_size is not None and gaussians.features.shape[1] > 0
    options = replace(options, feature_size=feature_size if has_features else None)
    result = render(gaussians, small, cam_from_world.to(gaussians.means), options)
    return Rendering(small, cam_from_world, result.rgb, result.depth, result.alpha, result.features)


def solid(rendering: Rendering, min_alpha: float, max_depth_step: float) -> Tensor:
    """Where depth can be trusted [H, W] bool: opaque, and no depth edge among the 3x3 neighbours.

    Between a foreground and a background the alpha-weighted depth is on neither. A slanted wall is no edge:
    the test is on the second difference of inverse depth, relative to it, which vanishes on any plane.
    """
    opaque = (rendering.alpha > min_alpha) & (rendering.depth > 0)
    disparity = torch.where(opaque, 1 / rendering.depth.clamp(min=1e-6), torch.zeros_like(rendering.depth))
    mean = F.avg_pool2d(F.pad(disparity[None, None], (1, 1, 1, 1), mode="replicate"), 3, stride=1)[0, 0]
    smooth = (disparity - mean).abs() < max_depth_step * disparity
    bad = (~(opaque & smooth)).float()[None, None]
    return F.max_pool2d(bad, 3, stride=1, padding=1)[0, 0] == 0


def sample(image: Tensor, pixels: Tensor) -> Tensor:
    """Bilinear values [N, C] of `image` [C, H, W] at `pixels` [N, 2]; first pixel centre = 0.5."""
    size = torch.tensor([image.shape[2], image.shape[1]], dtype=pixels.dtype, device=pixels.device)
    grid = (2 * pixels / size - 1)[None, None]
    values = F.grid_sample(image[None], grid.to(image), align_corners=False, padding_mode="border")
    return values[0, :, 0].T


def lift(rendering: Rendering, pixels: Tensor) -> Tensor:
    """Points [N, 3] in the rendering's camera frame behind `pixels` [N, 2] of its image.

    Inverse depth is interpolated, not depth: it is linear in the pixel over a plane.
    """
    disparity = sample(1 / rendering.depth.clamp(min=1e-6)[None], pixels)[:, 0]
    return rendering.camera.unproject(pixels.to(disparity), 1 / disparity)


def to_world(rendering: Rendering, local: Tensor) -> Tensor:
    """Points [N, 3] in the rendering's camera frame -> world [N, 3] float64, on the CPU."""
    rotation, translation = rendering.cam_from_world[:3, :3], rendering.cam_from_world[:3, 3]
    return (local.double().cpu() - translation) @ rotation


def inside(mask: Tensor, pixels: Tensor, margin: float = 0.0) -> Tensor:
    """Which `pixels` [N, 2] lie in the image, `margin` pixels from its border, where `mask` [H, W] is set."""
    height, width = mask.shape
    x, y = pixels[:, 0], pixels[:, 1]
    within = (x >= margin) & (y >= margin) & (x <= width - margin) & (y <= height - margin)
    column = x.long().clamp(0, width - 1)
    row = y.long().clamp(0, height - 1)
    return within & mask[row, column]


def view_motion(view: Rendering, pose: Tensor) -> float:
    """How far a rendering's points move from its pose to `pose`, in radians of view."""
    known = view.depth[view.depth > 0]
    depth = known.median().item() if len(known) else 1.0
    xi = se3.se3_log(pose @ se3.inverse(view.cam_from_world))
    return (torch.linalg.norm(xi[:3]) / depth + torch.linalg.norm(xi[3:])).item()
