"""Descriptors in closed form: each Gaussian gets the weighted mean of the descriptors of its pixels.

F_i = sum_p w_ip y_p / sum_p w_ip over all pixels p of all views, with w_ip the blending weight of Gaussian i
and y_p the descriptor at p. The backward pass of feature rendering computes these sums if y is passed as the
gradient of the rendered map. This takes one pass over the views and works on any 3DGS map.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.mapping.feature_cache import FeatureCache
from gsplatloc.mapping.frames import decode_mask
from gsplatloc.scene.cameras import View
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils.console import progress


def aggregate_descriptors(
    gaussians: Gaussians,
    views: Sequence[View],
    cache: FeatureCache,
    options: RenderOptions,
    quiet: bool = False,
) -> Tensor:
    """L2-normalised descriptors [N, D] of the Gaussians; zero where no view sees one."""
    total: Tensor | None = None  # [N, D + 1]: weighted descriptors, and the weights
    for view in progress(views, len(views), "descriptors", quiet):
        target = torch.from_numpy(cache.load_dense(view)).to(gaussians.device).float()
        sums = _weighted_sums(gaussians, view, target, options)
        total = sums if total is None else total.add_(sums)
    if total is None:
        raise ValueError("no views to aggregate descriptors from")
    # Dividing by the weights changes nothing before the normalisation, unless the weight is zero.
    return F.normalize(total[:, :-1], dim=1) * (total[:, -1:] > 0)


def _weighted_sums(gaussians: Gaussians, view: View, target: Tensor, options: RenderOptions) -> Tensor:
    """Sums over the pixels of a view, [N, D + 1], of weight times (descriptor, 1)."""
    channels, height, width = target.shape
    features = torch.zeros(len(gaussians), channels + 1, device=gaussians.device, requires_grad=True)
    rendered = render_features(gaussians, features, view, (height, width), options)
    weights = torch.cat([target, torch.ones_like(target[:1])])
    if view.load_mask is not None:
        weights = weights * torch.from_numpy(decode_mask(view, width, height)).to(weights)
    (sums,) = torch.autograd.grad(rendered, features, weights)
    return sums


def render_features(
    gaussians: Gaussians, features: Tensor, view: View, size: tuple[int, int], options: RenderOptions
) -> Tensor:
    """The map [D, h, w] of `features` [N, D] in a view; gradients flow to these alone."""
    # Only this map is needed: colours are rendered at its size too, and with one coefficient.
    camera = view.camera.resized(size[1], size[0])
    options = replace(options, feature_size=size, sh_degree=0, features_move_geometry=False)
    described = replace(gaussians.detach(), features=features, feature_decoder=None)
    rendered = render(described, camera, view.cam_from_world, options).features
    assert rendered is not None
    return rendered
