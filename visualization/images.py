"""Depth, descriptors and differences as colour images; text and dots drawn on images.

All images are [H, W, 3] uint8 RGB.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gsplatloc.localization.alignment.rendered_view import to_image as to_image

Image = NDArray[np.uint8]
RGB = tuple[int, int, int]

_FINE = 3  # bits of a pixel: dots are placed to 1/8 px


def side_by_side(panels: Sequence[Image], gutter: int, color: RGB = (255, 255, 255)) -> Image:
    """Panels of one height in a row, `gutter` pixels of one colour between them."""
    between = np.full((panels[0].shape[0], gutter, 3), color, np.uint8)
    return np.hstack([part for panel in panels for part in (panel, between)][:-1])


def stacked(rows: Sequence[Image], gutter: int) -> Image:
    """Images of one width below each other, `gutter` white pixels between them."""
    between = np.full((gutter, rows[0].shape[1], 3), 255, np.uint8)
    return np.vstack([part for row in rows for part in (row, between)][:-1])


def colorize(
    values: NDArray[np.floating], low: float, high: float, colormap: int = cv2.COLORMAP_TURBO
) -> Image:
    """Values [H, W], scaled from [`low`, `high`], as colours of one of OpenCV's colour maps."""
    scaled = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    return np.ascontiguousarray(cv2.applyColorMap((scaled * 255).astype(np.uint8), colormap)[..., ::-1])


def colorize_depth(depth: NDArray[np.floating], near: float | None = None, far: float | None = None) -> Image:
    """Depth [H, W] in metres: near is red, far is blue, unknown (0) is black.

    The range of colours is the 1st to the 99th percentile if it is not given.
    """
    known = depth > 0
    if not known.any():
        return np.zeros((*depth.shape, 3), np.uint8)
    low, high = np.percentile(depth[known], (1, 99))
    low, high = near if near is not None else float(low), far if far is not None else float(high)
    image = colorize(low + high - depth, low, high)
    image[~known] = 0
    return image


def colorize_difference(a: Image, b: Image, full_scale: float = 96) -> Image:
    """The mean absolute difference over the channels; `full_scale` grey levels are the brightest colour."""
    difference = np.abs(a.astype(np.float32) - b.astype(np.float32)).mean(2)
    return colorize(difference, 0, full_scale, cv2.COLORMAP_INFERNO)


class FeatureColors:
    """Descriptors as colours: their three leading principal components, the same for every view."""

    def __init__(self, features: Tensor) -> None:
        """Fit to a feature map [C, h, w] or a set of descriptors [C, N]."""
        samples = _normalised(features)
        self._mean = samples.mean(0)
        _, _, basis = torch.linalg.svd(samples - self._mean, full_matrices=False)
        basis = basis[:3]
        # The sign of a singular vector is arbitrary: make its largest entry positive.
        largest = basis.gather(1, basis.abs().argmax(1, keepdim=True))
        self._basis = basis * largest.sign()
        projected = (samples - self._mean) @ self._basis.T
        self._low, self._high = (torch.quantile(projected, q, dim=0) for q in (0.02, 0.98))

    def __call__(self, features: Tensor) -> Image:
        """A feature map [C, h, w] as an image of h x w."""
        projected = (_normalised(features) - self._mean) @ self._basis.T
        scaled = (projected - self._low) / (self._high - self._low).clamp(min=1e-12)
        image = (scaled.clamp(0, 1) * 255).round().byte()
        image = torch.nn.functional.pad(image, (0, 3 - image.shape[1]))  # maps with fewer than 3 channels
        return image.reshape(*features.shape[1:], 3).cpu().numpy()


def resize(image: Image, width: int, height: int, smooth: bool = True) -> Image:
    """Resample; enlarging is cubic unless `smooth` is off, shrinking averages."""
    shrink = width < image.shape[1]
    enlarge = cv2.INTER_CUBIC if smooth else cv2.INTER_NEAREST
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrink else enlarge)
    return np.asarray(resized, np.uint8)


def draw_dots(image: Image, pixels: NDArray[np.floating], color: RGB, radius: float = 2.5) -> None:
    """Discs with a dark rim at `pixels` [M, 2] (image corner = 0), in place."""
    centers = np.round((pixels - 0.5) * 2**_FINE).astype(int).tolist()  # OpenCV counts from pixel centres
    for grown, ink in ((1.0, (0, 0, 0)), (0.0, color)):
        size = round((radius + grown) * 2**_FINE)
        for x, y in centers:
            cv2.circle(image, (x, y), size, ink, cv2.FILLED, cv2.LINE_AA, _FINE)


def draw_rays(
    image: Image,
    starts: NDArray[np.floating],
    directions: NDArray[np.floating],
    color: RGB,
    radius: float = 2.5,
) -> None:
    """Dots at `starts` [M, 2], each with a line along `directions` [M, 2], pixels, in place."""
    width = max(1, round(radius / 2.5))
    ends = starts + directions
    for start, end in zip((starts - 0.5).round().astype(int), (ends - 0.5).round().astype(int)):
        cv2.line(image, start.tolist(), end.tolist(), color, width, cv2.LINE_AA)
    draw_dots(image, starts, color, radius)


def draw_text(
    image: Image, text: str, origin: tuple[int, int], size: int, color: RGB, weight: int = 400
) -> int:
    """Write `text` with its baseline's left end at `origin`, in place; returns the x where it ends."""
    end, _ = cv2.putText(image, _drawable(text), origin, color, cv2.FontFace("sans"), size, weight)
    return int(end[0])


def text_width(text: str, size: int, weight: int = 400) -> int:
    """Pixels that `draw_text` covers from left to right."""
    left, _, width, _ = cv2.getTextSize(
        (4096, 256), _drawable(text), (0, 128), cv2.FontFace("sans"), size, weight
    )
    return int(left + width)


def _drawable(text: str) -> str:
    """`text` without what crashes OpenCV: bytes of file names that are not UTF-8."""
    return text.encode(errors="replace").decode()


def encode_jpeg(image: Image, quality: int = 82) -> bytes:
    """The bytes of a .jpg."""
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def encode_png(image: Image) -> bytes:
    """The bytes of a .png."""
    return cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 6])[1].tobytes()


def _normalised(features: Tensor) -> Tensor:
    flat = features.detach().flatten(1).T.float()  # [N, C]
    return torch.nn.functional.normalize(flat, dim=1)
