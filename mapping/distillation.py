"""Descriptors by gradient on a finished map: the feature loss alone, at the feature maps' own small size.

The feature loss does not move geometry, so it can be minimised after training as well as during it, and then
no image is rendered for it. Mean cosine to XFeat's maps of held-out views of RedKitchen: 0.872 by
aggregation; 0.888 by 600 steps from zero at the paper's learning rate; 0.906 by aggregation and 300 steps at
learning rates from 0.02 to 0.001.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gsplatloc.gaussian_renderer import RenderOptions
from gsplatloc.mapping.aggregation import render_features
from gsplatloc.mapping.feature_cache import FeatureCache
from gsplatloc.mapping.frames import decode_mask, masked_target
from gsplatloc.mapping.losses import feature_loss
from gsplatloc.mapping.schedule import ViewOrder
from gsplatloc.scene.cameras import View
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils.console import progress


def distill_descriptors(
    gaussians: Gaussians,
    views: Sequence[View],
    cache: FeatureCache,
    options: RenderOptions,
    steps: Sequence[float],
    seed: int = 0,
    quiet: bool = False,
) -> Tensor:
    """Descriptors [N, D], starting from the Gaussians' own; `steps` holds every step's learning rate."""
    features = gaussians.features.detach().clone().requires_grad_()
    adam = torch.optim.Adam([features], eps=1e-15, fused=True)
    order = ViewOrder(len(views), seed)
    for rate in progress(steps, len(steps), "distillation", quiet):
        view = views[order.advance()]
        target = torch.from_numpy(cache.load_dense(view)).to(features.device).float()
        height, width = target.shape[1:]
        rendered = render_features(gaussians, features, view, (height, width), options)
        if view.load_mask is not None:
            mask = torch.from_numpy(decode_mask(view, width, height)).to(target.device)
            target = masked_target(target, rendered, mask)
        feature_loss(rendered, target).backward()
        adam.param_groups[0]["lr"] = rate
        adam.step()
        adam.zero_grad(set_to_none=True)
    return features.detach()
