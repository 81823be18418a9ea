"""Residual blocks from a rendering and a query image: which samples are compared, and at which scale.

Grey values are compared after local contrast normalisation, mean 0 and standard deviation 1 around every
pixel: exposure, vignetting and shading drop out, and edges of low contrast count as much as strong ones. Both
images are blurred first, so that the rendering, never as sharp as the photo, has the same image gradients.
"""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.localization.alignment.correspondences import normalised_contrast
from gsplatloc.localization.alignment.rendered_view import Rendering, lift
from gsplatloc.localization.alignment.residuals import ResidualBlock
from gsplatloc.scene.cameras import Camera

SAMPLES = 4000  # pixels compared: the one of largest gradient in each of as many square cells
# Gaussian sigmas in pixels of the image that is compared. With less blur the photo is sharper than the
# rendering, which biases the pose. Neighbourhoods of 2 to 4 are equally accurate, 8 is worse.
_BLUR_PX = 1.0
_NEIGHBOURHOOD_PX = 3.0
_MARGIN = 4  # pixels: samples at the border leave the query image with the first step
_CHANNEL_STEP = 16  # descriptors are padded to a multiple of it
_MAX_CELLS = 1200  # of a rendered feature map that are compared


def camera_of(camera: Camera, scale: float) -> Camera:
    """The camera of an image level."""
    return camera.resized(max(2, round(camera.width * scale)), max(2, round(camera.height * scale)))


def intrinsics_of(camera: Camera) -> tuple[float, float, float, float]:
    return camera.fx, camera.fy, camera.cx, camera.cy


def contrast(grey: np.ndarray, camera: Camera) -> np.ndarray:
    """Grey [H, W] in [0, 1] -> local contrast, float32, of the camera's size."""
    if grey.shape != (camera.height, camera.width):
        grey = cv2.resize(grey, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
    grey = cv2.GaussianBlur(grey, (0, 0), _BLUR_PX)
    return np.ascontiguousarray(normalised_contrast(grey, _NEIGHBOURHOOD_PX), np.float32)


def photometric_block(photo: np.ndarray, view: Rendering, valid: Tensor, scale: float) -> ResidualBlock:
    """Compare a query image, grey [H, W] of the rendering's size, with the rendering at `scale` of that size.

    `valid` [H, W] is the rendering's valid-depth mask.
    """
    camera = camera_of(view.camera, scale)
    image = contrast(photo, camera)
    reference = torch.from_numpy(contrast(view.grey.numpy(), camera))
    gradients = _gradients(reference)
    index = _steepest(gradients, _at_scale(valid, camera))
    pixels = torch.stack([index % camera.width, index // camera.width], 1).float() + 0.5
    return ResidualBlock(
        "photometric",
        _lifted(view, camera, pixels),
        reference.flatten()[index],
        torch.from_numpy(image),
        intrinsics_of(camera),
        gradients.flatten(1)[:, index].contiguous(),
    )


def feature_block(dense: Tensor, view: Rendering, valid: Tensor) -> ResidualBlock | None:
    """Compare a query image's descriptor map [D, h, w] with the rendered one; None without a rendered one."""
    if view.features is None:
        return None
    _, height, width = view.features.shape
    camera = view.camera.resized(width, height)
    index = _grid(_at_scale(valid, camera), _MAX_CELLS)
    pixels = torch.stack([index % width, index // width], 1).float() + 0.5
    descriptors = F.normalize(view.features, dim=0).flatten(1).T[index]
    query = dense.to(descriptors).permute(1, 2, 0)
    padding = (0, -descriptors.shape[1] % _CHANNEL_STEP)
    return ResidualBlock(
        "features",
        _lifted(view, camera, pixels),
        F.pad(descriptors, padding).contiguous(),
        F.pad(query, padding).contiguous(),
        intrinsics_of(view.camera.resized(query.shape[1], query.shape[0])),
    )


def inverse_depth_block(depth: Tensor, view: Rendering, valid: Tensor, samples: int) -> ResidualBlock:
    """Compare measured depth [H, W] in metres, 0 = unknown, with that of the rendering, on a regular grid."""
    camera = view.camera.resized(depth.shape[1], depth.shape[0])
    index = _grid(_at_scale(valid, camera), samples)
    pixels = torch.stack([index % camera.width, index // camera.width], 1).float() + 0.5
    known = depth > 0
    inverse = torch.where(known, 1 / torch.where(known, depth, 1.0), 0.0)
    points = _lifted(view, camera, pixels)
    return ResidualBlock(
        "inverse_depth", points, points.new_zeros(0), inverse.to(points).contiguous(), intrinsics_of(camera)
    )


def _lifted(view: Rendering, camera: Camera, pixels: Tensor) -> Tensor:
    """Points [3, N] behind `pixels` [N, 2] of `camera`, a resized camera of the rendering."""
    scale = pixels.new_tensor([view.camera.width / camera.width, view.camera.height / camera.height])
    return lift(view, pixels * scale).T.contiguous()


def _at_scale(mask: Tensor, camera: Camera) -> Tensor:
    """A mask [H, W] at a camera's size: set where it is set all over the pixel."""
    if mask.shape == (camera.height, camera.width):
        return mask
    share = cv2.resize(
        mask.numpy().astype(np.float32), (camera.width, camera.height), interpolation=cv2.INTER_AREA
    )
    return torch.from_numpy(share > 0.999)


def _grid(mask: Tensor, count: int) -> Tensor:
    """Indices [P] of the set pixels of a mask [H, W] on a regular grid of about `count` pixels."""
    step = max(1, round((mask.numel() / count) ** 0.5))
    grid = torch.zeros_like(mask)
    grid[step // 2 :: step, step // 2 :: step] = True
    return (grid & mask).flatten().nonzero()[:, 0]


def _gradients(image: Tensor) -> Tensor:
    """Central differences [2, H, W] of an image [H, W], along x and y; zero at its border."""
    gradients = torch.zeros(2, *image.shape)
    gradients[0, :, 1:-1] = 0.5 * (image[:, 2:] - image[:, :-2])
    gradients[1, 1:-1] = 0.5 * (image[2:] - image[:-2])
    return gradients


def _steepest(gradients: Tensor, valid: Tensor) -> Tensor:
    """Indices [P] of the valid pixel of largest gradient in each of about `SAMPLES` square cells."""
    strength = torch.hypot(gradients[0], gradients[1]) * valid
    margin = min(_MARGIN, min(strength.shape) // 4)
    inner = torch.zeros_like(strength)
    inner[margin:-margin, margin:-margin] = strength[margin:-margin, margin:-margin]
    side = max(2, round((inner.numel() / SAMPLES) ** 0.5))
    best, index = F.max_pool2d(inner[None, None], min(side, *inner.shape), return_indices=True)
    return index.flatten()[best.flatten() > 0]
