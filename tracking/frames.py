"""RGB-D images prepared for alignment: levels of local contrast and of inverse depth, without depth edges.

Depth is kept as its inverse: it is linear in the pixel over a plane, so means and interpolation stay on the
surface, and the noise of a structured-light or stereo sensor, which grows with z^2, is the same everywhere.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.localization.alignment.blocks import contrast
from gsplatloc.localization.alignment.rendered_view import Rendering
from gsplatloc.scene.cameras import Camera, View
from gsplatloc.tracking.options import RgbdFrameOptions
from gsplatloc.utils.errors import GSplatLocError

_MAX_DEPTH_STEP = 0.02  # relative second difference of inverse depth; a larger one is a depth edge


@dataclass(frozen=True)
class FrameLevel:
    """A frame at one size."""

    camera: Camera
    contrast: Tensor  # [h, w] float32, mean 0 and deviation 1 around every pixel
    inverse_depth: Tensor  # [h, w] float32 in 1/m, 0 = unknown or an edge


@dataclass(frozen=True)
class RgbdFrame:
    """An RGB-D image, prepared."""

    name: str
    camera: Camera  # of the finest level
    rgb: np.ndarray  # [H, W, 3] uint8
    grey: np.ndarray  # [H, W] float32 in [0, 1]
    levels: tuple[FrameLevel, ...]  # finest first

    @property
    def inverse_depth(self) -> Tensor:
        """[H, W] of the finest level, 1/m, 0 = unknown."""
        return self.levels[0].inverse_depth

    @property
    def depth(self) -> Tensor:
        """[H, W] metres, 0 = unknown."""
        known = self.inverse_depth > 0
        return torch.where(known, 1 / torch.where(known, self.inverse_depth, 1.0), 0.0)

    def as_rendering(self, cam_from_world: Tensor) -> Rendering:
        """The frame as a rendering from a pose: opaque where depth is known."""
        rgb = torch.from_numpy(self.rgb).permute(2, 0, 1).float() / 255
        depth = self.depth
        return Rendering(self.camera, cam_from_world, rgb, depth, (depth > 0).float())


def load_frame(view: View, options: RgbdFrameOptions) -> RgbdFrame:
    """Decode and prepare the image and the depth of a view that has both."""
    if view.load_depth is None:
        raise ValueError(f"{view.name} has no depth: sequences are made of views that have")
    return prepare(view.name, view.load_image(), view.load_depth(), view.camera, options)


def prepare(
    name: str, rgb: np.ndarray, depth: np.ndarray, camera: Camera, options: RgbdFrameOptions
) -> RgbdFrame:
    """A frame from an image [H, W, 3] uint8 and depth [H, W] in metres, 0 = unknown, both of `camera`."""
    rgb, depth, camera = _cropped(rgb, depth, camera, options)
    depth = np.where(depth < options.max_depth, depth, 0)
    inverse = torch.from_numpy(np.divide(1, depth, out=np.zeros_like(depth), where=depth > 0)).float()
    while max(camera.width, camera.height) >= 2 * options.side:
        camera = camera.resized(camera.width // 2, camera.height // 2)
        inverse = _halved(_without_edges(inverse))
    if rgb.shape[:2] != (camera.height, camera.width):
        rgb = cv2.resize(rgb, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    inverse = _smoothed(_without_edges(inverse), options.smooth_px)
    levels = []
    for index in range(options.levels):
        if index:
            camera, inverse = camera.resized(camera.width // 2, camera.height // 2), _halved(inverse)
        image = torch.from_numpy(contrast(grey, camera))
        levels.append(FrameLevel(camera, image, inverse.contiguous()))
    return RgbdFrame(name, levels[0].camera, rgb, grey, tuple(levels))


def _cropped(
    rgb: np.ndarray, depth: np.ndarray, camera: Camera, options: RgbdFrameOptions
) -> tuple[np.ndarray, np.ndarray, Camera]:
    """Without the last rows and columns that would make a level's size odd."""
    halvings = options.levels - 1 + max(0, int(np.log2(max(camera.width, camera.height) / options.side)))
    height, width = (side >> halvings << halvings for side in (camera.height, camera.width))
    if min(height, width) == 0:
        raise GSplatLocError(
            f"expected images of at least {1 << halvings} pixels a side, found {camera.width}x"
            f"{camera.height}: take fewer levels"
        )
    return rgb[:height, :width], depth[:height, :width], replace(camera, width=width, height=height)


def _halved(inverse: Tensor) -> Tensor:
    """Means [h/2, w/2] over blocks of 2x2 of inverse depth, unknown where one of the four is.

    A mean of fewer would be off on a slanted surface. Blocks across an edge hold unknown ones already.
    """
    known = -F.max_pool2d(-(inverse > 0).float()[None], 2)[0]
    return F.avg_pool2d(inverse[None], 2)[0] * known


def _without_edges(inverse: Tensor) -> Tensor:
    """Inverse depth, unknown where its second difference over the known neighbours is large."""
    known = (inverse > 0).float()
    share, total = (F.avg_pool2d(_padded(image), 3, stride=1)[0, 0] for image in (known, inverse))
    smooth = (inverse - total / share.clamp(min=1e-6)).abs() < _MAX_DEPTH_STEP * inverse
    return torch.where(smooth & (share > 0.4), inverse, 0.0)


def _smoothed(inverse: Tensor, sigma: float) -> Tensor:
    """Gaussian mean of inverse depth where all neighbours are known: one-sided ones are off on a slope."""
    if sigma <= 0:
        return inverse
    size = (2 * round(2 * sigma) + 1,) * 2
    share, mean = (
        torch.from_numpy(cv2.GaussianBlur(image.numpy(), size, sigma, borderType=cv2.BORDER_CONSTANT))
        for image in ((inverse > 0).float(), inverse)
    )
    return torch.where(share > 0.999, mean, inverse)


def _padded(image: Tensor) -> Tensor:
    return F.pad(image[None, None], (1, 1, 1, 1))
