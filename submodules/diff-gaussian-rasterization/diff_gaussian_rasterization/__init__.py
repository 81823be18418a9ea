"""Differentiable rasterization of 3D Gaussians: colour, depth, alpha and features of any size, and the pose.

    result = rasterize(means, quaternions, scales, opacities, sh=sh, cam_from_world=pose, settings=settings)

Conventions: x_cam = R x_world + t, OpenCV axes, quaternions wxyz, the image corner is pixel (0, 0).
"""

from diff_gaussian_rasterization._core import isa
from diff_gaussian_rasterization.api import Rasterization, RasterizerSettings, rasterize
from diff_gaussian_rasterization.cuda import has_cuda
from diff_gaussian_rasterization.losses import photometric_loss
from diff_gaussian_rasterization.optimizer import AdamParameter, adam_step

__all__ = [
    "AdamParameter",
    "Rasterization",
    "RasterizerSettings",
    "adam_step",
    "has_cuda",
    "isa",
    "photometric_loss",
    "rasterize",
]
__version__ = "0.1.0"
