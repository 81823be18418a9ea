"""What is drawn around a Gaussian: it looks like the rendering, and depends on nothing that it should not."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.localization.splat_descriptors.describe import visible_anchors
from gsplatloc.localization.splat_descriptors.neighbourhood import Grid, draw, draw_all, merged, project
from gsplatloc.localization.splat_descriptors.network import GRIDS
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils import se3
from tests.localization.rendered_room import make_gaussians

CAMERA = Camera(320, 240, 262.0, 264.0, 158.0, 121.5)
POSE = se3.se3_exp(torch.tensor([0.1, -0.05, 0.2, 0.02, -0.06, 0.03], dtype=torch.float64))
GRID = Grid(side=8, cell_px=4.0, neighbours=10_000)


@pytest.fixture(scope="module")
def room() -> Gaussians:
    return make_gaussians()


def drawn(gaussians: Gaussians, index: Tensor, pose: Tensor = POSE) -> Tensor:
    """Of the Gaussians at `index`."""
    local = gaussians.means[index] @ pose[:3, :3].T.to(gaussians.means) + pose[:3, 3].to(gaussians.means)
    return draw_all(project(gaussians, CAMERA, pose), CAMERA.project(local), local[:, 2], GRIDS)


def anchors(room: Gaussians, count: int = 24) -> Tensor:
    index = visible_anchors(room, CAMERA, POSE).index
    return index[torch.randperm(len(index), generator=torch.Generator().manual_seed(3))[:count]]


def test_a_grid_shows_what_is_rendered(room: Gaussians) -> None:
    wall = room.select(torch.arange(2500))  # the back wall: one surface, so that all of it is drawn
    pixel = torch.tensor([[160.0, 120.0], [100.0, 80.0]])
    result = render(wall, CAMERA, POSE, RenderOptions())
    depth = result.depth[pixel[:, 1].long(), pixel[:, 0].long()]
    found = draw(project(wall, CAMERA, POSE), pixel, depth, GRID)
    for each, (column, row) in zip(found, pixel.long().tolist()):
        window = (slice(row - 16, row + 16), slice(column - 16, column + 16))
        grey, alpha = result.rgb.mean(0)[window], result.alpha[window]
        rendered = F.avg_pool2d(torch.stack([grey, alpha])[None], 4)[0]
        assert (each[:2] - rendered).abs().max() < 0.1 and (each[:2] - rendered).abs().mean() < 0.02


def test_merged_gaussians_look_the_same_from_their_cells(room: Gaussians) -> None:
    seen = project(room, CAMERA, POSE)
    few = merged(seen, GRID.cell_px)
    pixel, depth = torch.tensor([[160.0, 120.0]]), torch.tensor([3.3])
    assert len(few.z) < len(seen.z)
    both = [draw(each, pixel, depth, GRID) for each in (seen, few)]
    assert (both[0] - both[1]).abs().mean() < 0.03


def test_the_frame_of_the_world_does_not_matter(room: Gaussians) -> None:
    turn = se3.se3_exp(torch.tensor([3.0, -1.0, 2.0, 0.4, -1.1, 0.7], dtype=torch.float64))
    axes = se3.rotation_from_quaternion(room.quaternions.double())
    moved = replace(
        room,
        means=(room.means.double() @ turn[:3, :3].T + turn[:3, 3]).float(),
        quaternions=torch.stack([se3.quaternion_from_rotation(turn[:3, :3] @ one) for one in axes]).float(),
        sh=room.sh[:, :1],
    )
    plain, index = replace(room, sh=room.sh[:, :1]), anchors(room)
    assert torch.allclose(drawn(moved, index, POSE @ se3.inverse(turn)), drawn(plain, index), atol=2e-3)


def test_the_unit_of_the_splat_does_not_matter(room: Gaussians) -> None:
    larger = replace(room, means=7 * room.means, log_scales=room.log_scales + torch.tensor(7.0).log())
    pose = POSE.clone()
    pose[:3, 3] *= 7
    index = anchors(room)
    # Layers of depth in which Gaussians are merged are others: not equal, but alike.
    assert (drawn(larger, index, pose) - drawn(room, index)).abs().mean() < 0.01


def test_the_order_of_the_gaussians_does_not_matter(room: Gaussians) -> None:
    order = torch.randperm(len(room), generator=torch.Generator().manual_seed(1))
    index = anchors(room)
    there = torch.argsort(order)[index]
    assert torch.allclose(drawn(room.select(order), there), drawn(room, index), atol=1e-4)


def test_what_stands_in_front_is_left_out(room: Gaussians) -> None:
    index = anchors(room)
    local = room.means @ POSE[:3, :3].T.float() + POSE[:3, 3].float()
    near = local[index] * torch.tensor([0.3, 0.3, 0.3])  # on the same rays
    floaters = room.select(index)
    means = (near - POSE[:3, 3].float()) @ POSE[:3, :3].float()
    floaters = replace(floaters, means=means, log_scales=torch.full_like(floaters.log_scales, -3.0))
    both = Gaussians(
        *(torch.cat([a, b]) for a, b in zip(room.per_gaussian().values(), floaters.per_gaussian().values()))
    )
    assert torch.allclose(drawn(both, index), drawn(room, index), atol=1e-5)


def test_only_visible_gaussians_are_anchors(room: Gaussians) -> None:
    found = visible_anchors(room, CAMERA, POSE)
    shown = render(room, CAMERA, POSE, RenderOptions()).depth[found.xy[:, 1].long(), found.xy[:, 0].long()]
    assert len(found) > 500 and ((shown - found.z).abs() < 0.1 * found.z).float().mean() > 0.98
    assert not len(visible_anchors(room, CAMERA, POSE, min_opacity=1.0))
