"""From a rendering and a photo to residual blocks: which samples are compared, in what guise, on which level.

Grey values are compared as local contrast, mean 0 and deviation 1 around every pixel: exposure, vignetting
and shading drop out, and edges of low contrast hold the pose as well as strong ones. Both images are blurred
first, so that a rendering, which is never as sharp as the photo, has the photo's slopes.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.localization.alignment.correspondences import normalised_contrast
from gsplatloc.localization.alignment.rendered_view import Rendering, sample
from gsplatloc.localization.alignment.residuals import ResidualBlock
from gsplatloc.scene.cameras import Camera

_MARGIN = 4  # pixels: samples at the border leave the query with the first step
_CHANNEL_STEP = 16  # descriptors are padded to a multiple of it


@dataclass(frozen=True)
class ContrastOptions:
    """How grey images are brought to local contrast. Pixels are those of the level."""

    blur_px: float = 1.0  # Gaussian sigma; less leaves the photo sharper than the rendering, and biases
    neighbourhood_px: float = 3.0  # Gaussian sigma of local mean and deviation; 2 to 4 are alike, 8 is worse
    samples: int = 4000  # pixels compared, the steepest of as many small blocks


def camera_of(camera: Camera, scale: float) -> Camera:
    """The camera of an image level."""
    return camera.resized(max(2, round(camera.width * scale)), max(2, round(camera.height * scale)))


def intrinsics_of(camera: Camera) -> tuple[float, float, float, float]:
    return camera.fx, camera.fy, camera.cx, camera.cy


def contrast(grey: np.ndarray, camera: Camera, options: ContrastOptions) -> np.ndarray:
    """Grey [H, W] in [0, 1] -> local contrast, float32, of the camera's size."""
    if grey.shape != (camera.height, camera.width):
        grey = cv2.resize(grey, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
    if options.blur_px > 0:
        grey = cv2.GaussianBlur(grey, (0, 0), options.blur_px)
    return np.ascontiguousarray(normalised_contrast(grey, options.neighbourhood_px), np.float32)


def photometric_block(
    photo: np.ndarray, view: Rendering, trusted: Tensor, scale: float, options: ContrastOptions
) -> ResidualBlock:
    """Compare a photo, grey [H, W] of the rendering's size, with the rendering at `scale` of that size.

    `trusted` [H, W] says where the rendering's depth holds.
    """
    camera = camera_of(view.camera, scale)
    image = contrast(photo, camera, options)
    reference = torch.from_numpy(contrast(view.grey.numpy(), camera, options))
    slopes = _slopes(reference)
    index = _steepest(slopes, _at_scale(trusted, camera), options.samples)
    pixels = torch.stack([index % camera.width, index // camera.width], 1).float() + 0.5
    return ResidualBlock(
        "photometric",
        _lifted(view, camera, pixels),
        reference.flatten()[index],
        torch.from_numpy(image),
        intrinsics_of(camera),
        slopes.flatten(1)[:, index].contiguous(),
    )


def feature_block(dense: Tensor, view: Rendering, trusted: Tensor) -> ResidualBlock | None:
    """Compare a photo's descriptor map [D, h, w] with the rendered one, cell by cell; None without one."""
    if view.features is None:
        return None
    _, height, width = view.features.shape
    camera = view.camera.resized(width, height)
    index = _at_scale(trusted, camera).flatten().nonzero()[:, 0]
    pixels = torch.stack([index % width, index // width], 1).float() + 0.5
    descriptors = F.normalize(view.features, dim=0).flatten(1).T[index]
    query = dense.to(descriptors).permute(1, 2, 0)
    camera = view.camera.resized(query.shape[1], query.shape[0])
    padding = (0, -descriptors.shape[1] % _CHANNEL_STEP)
    return ResidualBlock(
        "features",
        _lifted(view, view.camera.resized(width, height), pixels),
        F.pad(descriptors, padding).contiguous(),
        F.pad(query, padding).contiguous(),
        intrinsics_of(camera),
    )


def inverse_depth_block(
    depth: Tensor, view: Rendering, trusted: Tensor, options: ContrastOptions
) -> ResidualBlock:
    """Compare measured depth [H, W] in metres, 0 = unknown, with that of the rendering, on a regular grid."""
    camera = view.camera.resized(depth.shape[1], depth.shape[0])
    step = max(1, round((depth.numel() / options.samples) ** 0.5))
    grid = torch.zeros(depth.shape, dtype=torch.bool)
    grid[step // 2 :: step, step // 2 :: step] = True
    index = (grid & _at_scale(trusted, camera)).flatten().nonzero()[:, 0]
    pixels = torch.stack([index % camera.width, index // camera.width], 1).float() + 0.5
    known = depth > 0
    inverse = torch.where(known, 1 / torch.where(known, depth, 1.0), 0.0)
    points = _lifted(view, camera, pixels)
    return ResidualBlock(
        "inverse_depth", points, points.new_zeros(0), inverse.to(points).contiguous(), intrinsics_of(camera)
    )


def _lifted(view: Rendering, camera: Camera, pixels: Tensor) -> Tensor:
    """Points [3, N] behind `pixels` [N, 2] of `camera`, a resized camera of the rendering.

    Inverse depth is interpolated, not depth: it is linear in the pixel over a plane.
    """
    scale = pixels.new_tensor([view.camera.width / camera.width, view.camera.height / camera.height])
    disparity = sample(1 / view.depth.clamp(min=1e-6)[None], pixels * scale)[:, 0]
    return camera.unproject(pixels, 1 / disparity).T.contiguous()


def _at_scale(mask: Tensor, camera: Camera) -> Tensor:
    """A mask [H, W] at a camera's size: set where it is set all over the pixel."""
    if mask.shape == (camera.height, camera.width):
        return mask
    share = cv2.resize(
        mask.numpy().astype(np.float32), (camera.width, camera.height), interpolation=cv2.INTER_AREA
    )
    return torch.from_numpy(share > 0.999)


def _slopes(image: Tensor) -> Tensor:
    """Central differences [2, H, W] of an image [H, W], along x and y; zero at its border."""
    slopes = torch.zeros(2, *image.shape)
    slopes[0, :, 1:-1] = 0.5 * (image[:, 2:] - image[:, :-2])
    slopes[1, 1:-1] = 0.5 * (image[2:] - image[:-2])
    return slopes


def _steepest(slopes: Tensor, trusted: Tensor, count: int) -> Tensor:
    """Indices [P] of the steepest trusted pixel of each of about `count` square blocks of the image."""
    strength = torch.hypot(slopes[0], slopes[1]) * trusted
    margin = min(_MARGIN, min(strength.shape) // 4)
    inner = torch.zeros_like(strength)
    inner[margin:-margin, margin:-margin] = strength[margin:-margin, margin:-margin]
    side = max(2, round((inner.numel() / count) ** 0.5))
    best, index = F.max_pool2d(inner[None, None], min(side, *inner.shape), return_indices=True)
    return index.flatten()[best.flatten() > 0]
