"""Differentiable rasterization of 3D Gaussians: colour, depth, alpha and features of any size, and the pose.

    result = rasterize(means, quaternions, scales, opacities, sh=sh, cam_from_world=pose, settings=settings)

Conventions: x_cam = R x_world + t, OpenCV axes, quaternions wxyz, the image corner is pixel (0, 0).
"""

from gsplatloc_kernels._checked import isa
from gsplatloc_kernels.api import Rasterization, RasterizerSettings, rasterize
from gsplatloc_kernels.cuda import has_cuda
from gsplatloc_kernels.interface import INTERFACE
from gsplatloc_kernels.losses import photometric_loss
from gsplatloc_kernels.optimizer import AdamParameter, adam_step

__all__ = [
    "INTERFACE",
    "AdamParameter",
    "Rasterization",
    "RasterizerSettings",
    "adam_step",
    "has_cuda",
    "isa",
    "photometric_loss",
    "rasterize",
]
