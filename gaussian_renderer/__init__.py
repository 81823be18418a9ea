"""Differentiable rendering of a map from a pose: colour, depth, opacity and descriptors."""

from dataclasses import replace

import torch
from torch import Tensor

from gsplatloc.gaussian_renderer import native, reference, sh
from gsplatloc.gaussian_renderer.options import RenderOptions, RenderResult, Splats
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError

__all__ = ["BACKENDS", "RenderOptions", "RenderResult", "render"]

BACKENDS = {"native": native.rasterize, "reference": reference.rasterize}


def render(
    gaussians: Gaussians,
    camera: Camera,
    cam_from_world: Tensor,
    options: RenderOptions | None = None,
    screen_offsets: Tensor | None = None,
) -> RenderResult:
    """Render `gaussians` seen by `camera` at `cam_from_world` [4, 4], in the Gaussians' own dtype.

    Differentiable with respect to every parameter of the map, the pose (any dtype) and `screen_offsets`
    [N, 2] in pixels, which are added to the projected means (densification uses their gradient). Features
    are rendered if `options.feature_size` is set and the map has any. Raises `GSplatLocError` for an unknown
    backend and if the native one is not installed.
    """
    options = options or RenderOptions()
    if options.backend not in BACKENDS:
        raise GSplatLocError(
            f"expected a backend among {sorted(BACKENDS)}, found {options.backend!r}: choose one of them"
        )
    if gaussians.antialiased:
        options = replace(options, antialiased=True)
    pose = cam_from_world.to(gaussians.means)
    splats = _splats(gaussians, pose, options)
    result = BACKENDS[options.backend](splats, camera, pose, options, screen_offsets)
    if result.features is None or gaussians.feature_decoder is None:
        return result
    return replace(result, features=torch.einsum("dc,chw->dhw", gaussians.feature_decoder, result.features))


def _splats(gaussians: Gaussians, cam_from_world: Tensor, options: RenderOptions) -> Splats:
    """The parameters of the rasterizer, with colours and covariances evaluated here if the options say so."""
    wants_features = options.feature_size is not None and gaussians.features.shape[1] > 0
    splats = Splats(
        means=gaussians.means,
        opacities=gaussians.opacities,
        quaternions=gaussians.quaternions,
        scales=gaussians.scales,
        sh=gaussians.sh,
        features=gaussians.features if wants_features else None,
    )
    if options.covariance_in_python:
        packed = reference.covariances(gaussians.quaternions, gaussians.scales)
        splats = replace(splats, quaternions=None, scales=None, covariances=packed)
    if options.sh_in_python:
        degree = reference.degree_in_use(gaussians.sh, options)
        colors = sh.colors(gaussians.sh, gaussians.means, se3.camera_center(cam_from_world), degree)
        splats = replace(splats, sh=None, colors=colors)
    return splats
