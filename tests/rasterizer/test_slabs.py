"""Views of many Gaussians go in two slabs of depth: the second for tiles that the first one leaves open."""

from functools import cache

import pytest
import torch
from torch import Tensor

import gsplatloc_kernels as native

COUNT = 640_000  # what reaches half of the image is too few for slabs
WIDTH, HEIGHT = 96, 64
IMAGES = ("rgb", "depth", "alpha", "features")
Inputs = dict[str, Tensor]


def settings(feature_scale: int, **changes: int) -> native.RasterizerSettings:
    return native.RasterizerSettings(
        WIDTH, HEIGHT, 80.0, 80.0, WIDTH / 2, HEIGHT / 2, WIDTH // feature_scale, HEIGHT // feature_scale,
        background=(0.3, 0.6, 0.1), **changes,
    )  # fmt: skip


@cache
def scene() -> Inputs:
    """Gaussians of about a pixel all over the image: an opaque wall at the top, dust elsewhere."""
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    z = 1 + uniform(COUNT, 1)
    x, y = (1.2 * uniform(COUNT, 2) - 0.6).unbind(1)
    y = 0.8 / 1.2 * y
    opaque = y < -0.1
    return {
        "means": torch.cat([torch.stack([x, y], 1) * z, z], 1),
        "quaternions": torch.randn(COUNT, 4, generator=generator),
        "scales": 0.005 + 0.01 * uniform(COUNT, 3),
        "opacities": torch.where(opaque, 0.6 + 0.4 * uniform(COUNT), 0.005 + 0.01 * uniform(COUNT)),
        "colors": uniform(COUNT, 3),
        "features": torch.randn(COUNT, 5, generator=generator),
        "cam_from_world": torch.eye(4),
    }


def left_of(inputs: Inputs) -> Inputs:
    """Those that may reach the left half of the image, in the same order."""
    left = inputs["means"][:, 0] < 0.25 * inputs["means"][:, 2]
    return {name: t if name == "cam_from_world" else t[left] for name, t in inputs.items()}


def render(inputs: Inputs, feature_scale: int, threads: int) -> tuple[list[Tensor], Inputs]:
    """The left half of all images, and the gradients of a sum over it."""
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in inputs.items()}
    view = native.rasterize(**leaves, settings=settings(feature_scale, threads=threads))
    images = [getattr(view, name) for name in IMAGES]
    halves = [image[..., : image.shape[-1] // 2] for image in images]
    generator = torch.Generator().manual_seed(1)
    loss = sum((half * torch.rand(half.shape, generator=generator)).sum() for half in halves)
    return halves, dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


@pytest.mark.parametrize("feature_scale", [1, 8], ids=["shared", "own"])
def test_slabs_change_nothing(feature_scale: int) -> None:
    """Neither images nor gradients, bit for bit, beside half of the view, which goes in one."""
    inputs = scene()
    halves, gradients = render(inputs, feature_scale, threads=2)
    expected, wanted = render(left_of(inputs), feature_scale, threads=1)
    alpha = halves[2]
    assert alpha[:16].min() > 0.99 and alpha[40:].max() < 0.97, "some tiles close, others stay open"
    for name, half, whole in zip(IMAGES, halves, expected, strict=True):
        assert torch.equal(half, whole), name
    left = inputs["means"][:, 0] < 0.25 * inputs["means"][:, 2]
    for name, gradient in gradients.items():
        if name == "cam_from_world":
            assert torch.allclose(gradient, wanted[name], rtol=1e-5), name
            continue
        assert torch.equal(gradient[left], wanted[name]), name
        assert gradient[~left].abs().max() == 0


def test_hidden_gaussians_of_a_second_slab_are_seen_where_the_first_is_open() -> None:
    """Without the far half of them dust is thinner, the wall the same."""
    inputs = scene()
    near = inputs["means"][:, 2] < 1.5
    with torch.no_grad():
        every = native.rasterize(**inputs, settings=settings(8))
        half = {name: t if name == "cam_from_world" else t[near] for name, t in inputs.items()}
        fewer = native.rasterize(**half, settings=settings(8))
    assert torch.equal(every.rgb[:, :16], fewer.rgb[:, :16])
    assert (every.alpha[40:] > fewer.alpha[40:] + 0.01).float().mean() > 0.9


@pytest.mark.parametrize("limit", [1000, COUNT // 2])
def test_too_many_intersections_of_any_slab_are_refused(limit: int) -> None:
    with pytest.raises(MemoryError, match=f"max_intersections = {limit}"):
        native.rasterize(**scene(), settings=settings(1, max_intersections=limit))
