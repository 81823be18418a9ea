"""Descriptors by gradient on a finished map."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.mapping.distillation import distill_descriptors
from gsplatloc.mapping.feature_cache import FeatureCache
from gsplatloc.mapping.losses import feature_loss
from gsplatloc.mapping.options import DescriptorOptions
from gsplatloc.scene.cameras import View
from gsplatloc.scene.gaussians import Gaussians

REFERENCE = RenderOptions(backend="reference")


def some_gaussians() -> Gaussians:
    means = torch.rand(30, 3, generator=torch.Generator().manual_seed(2)) * 2 - 1
    identity = torch.tensor([[1.0, 0, 0, 0]]).repeat(30, 1)
    opacities, sh = torch.ones(30), torch.zeros(30, 1, 3)
    return Gaussians(means, identity, torch.full((30, 3), -1.2), opacities, sh, torch.zeros(30, 4))


def loss(gaussians: Gaussians, view: View, cache: FeatureCache) -> float:
    target = torch.from_numpy(cache.load_dense(view)).float()
    size = (target.shape[1], target.shape[2])
    options = replace(REFERENCE, feature_size=size)
    rendered = render(gaussians, view.camera.resized(size[1], size[0]), view.cam_from_world, options).features
    assert rendered is not None
    return feature_loss(rendered, target).item()


def test_it_approaches_what_the_views_show(tmp_path: Path, tiny_views: list[View], extractor: Any) -> None:
    gaussians, cache = some_gaussians(), FeatureCache(tmp_path, extractor)
    found = distill_descriptors(gaussians, tiny_views, cache, REFERENCE, [0.05] * 60, quiet=True)
    before, after = (loss(g, tiny_views[2], cache) for g in (gaussians, replace(gaussians, features=found)))
    assert after < 0.5 * before


def test_without_steps_nothing_changes(tmp_path: Path, tiny_views: list[View], extractor: Any) -> None:
    gaussians = some_gaussians()
    found = distill_descriptors(
        gaussians, tiny_views, FeatureCache(tmp_path, extractor), REFERENCE, [], quiet=True
    )
    assert torch.equal(found, gaussians.features)


def test_rates_fall_exponentially() -> None:
    rates = torch.tensor(DescriptorOptions(descriptor_steps=3).descriptor_rates())
    assert torch.allclose(rates, torch.tensor([0.02, 0.02 / 20**0.5, 0.001]))
    assert DescriptorOptions().descriptor_rates() == []
