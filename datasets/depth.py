"""Registration of depth maps to the colour camera."""

from pathlib import Path

import numpy as np

from gsplatloc.datasets.layout import write_png
from gsplatloc.scene.images import DEPTH_UNITS_PER_METRE, decode_depth

DEPTH_FOCAL_LENGTH = 585.0  # pixels, the Kinect's nominal value


def register_depth(
    source: Path, target: Path, color_from_depth: np.ndarray, color_focal_length: float
) -> None:
    """Write the 16-bit millimetre depth map `source` registered to the colour camera, 0 where unknown."""
    depth = reproject_depth(decode_depth(source), color_from_depth, DEPTH_FOCAL_LENGTH, color_focal_length)
    write_png(target, np.rint(depth * DEPTH_UNITS_PER_METRE).astype(np.uint16))


def reproject_depth(
    depth: np.ndarray, target_from_source: np.ndarray, source_focal: float, target_focal: float
) -> np.ndarray:
    """Depth [H, W] in metres of one camera -> of another of the same size, by forward projection.

    Both cameras have their principal point at the image's centre. A pixel that several source pixels project
    to gets the smallest depth (z-buffer); a pixel that none projects to gets 0.
    """
    height, width = depth.shape
    rows, columns = np.nonzero(depth)
    z = depth[rows, columns].astype(np.float64)
    x = (columns + 0.5 - width / 2) / source_focal * z
    y = (rows + 0.5 - height / 2) / source_focal * z
    x, y, z = target_from_source[:3, :3] @ np.stack([x, y, z]) + target_from_source[:3, 3:]
    ahead = z > 0
    x, y, z = x[ahead], y[ahead], z[ahead]
    u = np.floor(x / z * target_focal + width / 2).astype(np.int64)
    v = np.floor(y / z * target_focal + height / 2).astype(np.int64)
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    nearest = np.full(height * width, np.inf)
    np.minimum.at(nearest, v[inside] * width + u[inside], z[inside])
    return np.where(np.isfinite(nearest), nearest, 0).reshape(height, width).astype(np.float32)
