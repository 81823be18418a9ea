"""Valid depth, the points behind pixels, and images read between pixels."""

import torch
from torch import Tensor

from gsplatloc.localization.alignment import rendered_view as rendering
from gsplatloc.localization.alignment.rendered_view import Rendering, ValidDepth
from gsplatloc.scene.cameras import Camera

CAMERA = Camera(64, 48, 60.0, 62.0, 30.0, 25.0)
LIMITS = ValidDepth(0.9, 0.01)


def _pixels() -> Tensor:
    y, x = torch.meshgrid(torch.arange(48) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2)


def _plane(normal: list[float], distance: float) -> Tensor:
    """Depth [48, 64] of the plane normal . X = distance."""
    rays = CAMERA.unproject(_pixels(), torch.ones(48 * 64))
    return (distance / (rays @ torch.tensor(normal))).reshape(48, 64)


def _view(depth: Tensor, alpha: Tensor | None = None) -> Rendering:
    opaque = torch.ones_like(depth) if alpha is None else alpha
    return Rendering(CAMERA, torch.eye(4, dtype=torch.float64), depth.expand(3, 48, 64), depth, opaque)


def test_a_steep_plane_is_valid_everywhere_inside() -> None:
    mask = rendering.valid_depth_mask(_view(_plane([0.7, 0.1, 0.7], 2.0)), LIMITS)
    assert bool(mask[2:-2, 2:-2].all())


def test_both_sides_of_a_depth_edge_are_invalid() -> None:
    depth = torch.full((48, 64), 2.0)
    depth[:, 32:] = 2.5
    mask = rendering.valid_depth_mask(_view(depth), LIMITS)
    assert not bool(mask[:, 31:33].any())
    assert bool(mask[:, :29].all() and mask[:, 35:].all())


def test_a_transparent_pixel_is_invalid() -> None:
    alpha = torch.ones(48, 64)
    alpha[20, 20] = 0.5
    mask = rendering.valid_depth_mask(_view(torch.full((48, 64), 2.0), alpha), LIMITS)
    assert not bool(mask[20, 20])
    assert bool(mask[30, 40])


def test_points_on_a_plane_are_lifted_onto_it_between_pixels_too() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(100, 2, generator=generator) * torch.tensor([60.0, 44.0]) + 2
    points = rendering.lift(_view(_plane([0.5, -0.2, 0.8], 2.0)), pixels)
    torch.testing.assert_close(points @ torch.tensor([0.5, -0.2, 0.8]), torch.full((100,), 2.0))
    torch.testing.assert_close(CAMERA.project(points), pixels, rtol=0, atol=1e-4)


def test_samples_at_pixel_centres_are_the_pixels() -> None:
    image = torch.rand(2, 48, 64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(rendering.sample(image, _pixels()), image.flatten(1).T)


def test_inside_knows_border_and_mask() -> None:
    mask = torch.ones(48, 64, dtype=torch.bool)
    mask[10, 20] = False
    pixels = torch.tensor([[20.5, 10.5], [21.5, 10.5], [-0.1, 5.0], [63.9, 47.9], [64.1, 3.0], [1.0, 5.0]])
    assert rendering.inside(mask, pixels).tolist() == [False, True, False, True, False, True]


def test_gradients_are_those_of_the_interpolated_image() -> None:
    generator = torch.Generator().manual_seed(2)
    image = torch.rand(48, 64, 2, generator=generator, dtype=torch.float64)
    x, y = torch.rand(2, 50, generator=generator, dtype=torch.float64) * torch.tensor([[60.0], [44.0]]) + 2
    x.requires_grad_(), y.requires_grad_()
    read = rendering.bilinear(image, x, y)
    expected = [torch.autograd.grad(read.values[:, 1].sum(), axis, retain_graph=True)[0] for axis in (x, y)]
    torch.testing.assert_close(read.gradients[:, :, 1], torch.stack(expected))


def test_outside_the_image_its_border_is_repeated_and_marked() -> None:
    image = torch.rand(48, 64, 1, generator=torch.Generator().manual_seed(3))
    read = rendering.bilinear(image, torch.tensor([-3.0, 70.0]), torch.tensor([10.5, 47.9]))
    assert read.values[:, 0].tolist() == [image[10, 0, 0].item(), image[47, 63, 0].item()]
    assert not bool(read.inside.any())
