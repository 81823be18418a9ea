"""Descriptors in closed form, against their definition."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.mapping.aggregation import aggregate_descriptors
from gsplatloc.mapping.feature_cache import FeatureCache
from gsplatloc.scene.cameras import View
from gsplatloc.scene.gaussians import Gaussians

REFERENCE = RenderOptions(backend="reference")


def some_gaussians() -> Gaussians:
    generator = torch.Generator().manual_seed(2)
    means = torch.rand(6, 3, generator=generator) - 0.5
    means[5, 2] = -40  # behind every camera
    sh = torch.zeros(6, 1, 3)
    identity = torch.tensor([[1.0, 0, 0, 0]]).repeat(6, 1)
    return Gaussians(means, identity, torch.full((6, 3), -1.5), torch.ones(6), sh, torch.zeros(6, 0))


def test_it_is_the_weighted_mean_of_what_the_views_show(
    tmp_path: Path, tiny_views: list[View], extractor: Any
) -> None:
    gaussians, cache, views = some_gaussians(), FeatureCache(tmp_path, extractor), tiny_views[:2]
    found = aggregate_descriptors(gaussians, views, cache, REFERENCE, quiet=True)
    total = torch.zeros(6, 4)
    for view in views:
        target = torch.from_numpy(cache.load_dense(view)).float()
        size = (target.shape[1], target.shape[2])
        # Rendering one-hot features gives every Gaussian's blending weight at every pixel.
        one_hot = replace(gaussians, features=torch.eye(6))
        camera = view.camera.resized(size[1], size[0])
        weights = render(one_hot, camera, view.cam_from_world, replace(REFERENCE, feature_size=size)).features
        assert weights is not None
        total += torch.einsum("nhw,dhw->nd", weights, target)
    assert torch.allclose(found[:5], F.normalize(total, dim=1)[:5], atol=1e-5)


def test_an_unseen_gaussian_has_no_descriptor(tmp_path: Path, tiny_views: list[View], extractor: Any) -> None:
    cache = FeatureCache(tmp_path, extractor)
    found = aggregate_descriptors(some_gaussians(), tiny_views[:1], cache, REFERENCE, quiet=True)
    assert not found[5].any() and found[:5].any(1).all()
