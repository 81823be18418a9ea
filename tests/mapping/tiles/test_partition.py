"""Views are divided where few neighbours are separated, and blocks overlap."""

import numpy as np
import torch

from gsplatloc.mapping.tiles.partition import neighbours, partition

ROOM_VIEWS = 60


def rooms(offsets: list[tuple[float, float]], appearances: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Centres [V, 3] on a loop in each room, and descriptors of its appearance that change along the loop."""
    generator = torch.Generator().manual_seed(0)
    looks = torch.randn(8, 3, 64, generator=generator)
    centers, descriptors = [], []
    for (x, y), look in zip(offsets, appearances):
        angle = torch.arange(ROOM_VIEWS) * 2 * torch.pi / ROOM_VIEWS
        centers.append(torch.stack([x + angle.cos(), y + angle.sin(), torch.zeros(ROOM_VIEWS)], 1))
        base, cosine, sine = looks[look]
        descriptors.append(base + angle.cos()[:, None] * cosine + angle.sin()[:, None] * sine)
    return torch.cat(centers), torch.nn.functional.normalize(torch.cat(descriptors), dim=1)


def test_neighbours_are_near_and_look_alike() -> None:
    # Two rooms beside a wall, and far away one that looks like the first.
    centers, descriptors = rooms([(0, 0), (2.1, 0), (40, 0)], [0, 1, 0])
    near = neighbours(centers, descriptors)
    room = torch.arange(len(centers)) // ROOM_VIEWS
    assert (room[near] == room[:, None]).float().mean() > 0.99
    assert not (near == torch.arange(len(centers))[:, None]).any()


def test_blocks_are_cut_at_the_wall_and_not_at_half_the_views() -> None:
    centers, descriptors = rooms([(0, 0), (2.1, 0)], [0, 1])
    keep = torch.arange(2 * ROOM_VIEWS - 12)  # not equal parts
    centers, descriptors = centers[keep], descriptors[keep]
    blocks = partition(centers.numpy(), neighbours(centers, descriptors).numpy(), 54)
    assert sorted(len(block.core) for block in blocks) == [48, 60]
    assert {frozenset(view // ROOM_VIEWS for view in block.core) for block in blocks} == {
        frozenset({0}),
        frozenset({1}),
    }


def test_every_view_is_in_one_core_and_overlaps_are_of_neighbouring_cores() -> None:
    generator = np.random.default_rng(0)
    centers = np.stack([np.linspace(0, 100, 500), generator.normal(0, 0.3, 500), np.zeros(500)], 1)
    descriptors = torch.nn.functional.normalize(torch.randn(500, 32, generator=torch.Generator()), dim=1)
    near = neighbours(torch.from_numpy(centers).float(), descriptors).numpy()
    blocks = partition(centers, near, 100)
    cores = [view for block in blocks for view in block.core]
    assert sorted(cores) == list(range(500)) and len(blocks) == 5
    for block in blocks:
        assert 60 <= len(block.core) <= 140
        assert block.overlap and not set(block.overlap) & set(block.core)
        assert len(block.overlap) <= 0.35 * len(block.core) + 1
        left, right = centers[block.core, 0].min(), centers[block.core, 0].max()
        assert all(left - 10 < centers[view, 0] < right + 10 for view in block.overlap)
        assert block.views == sorted(block.core + block.overlap)


def test_few_views_are_one_block() -> None:
    near = neighbours(torch.zeros(3, 3), torch.eye(3)).numpy()
    (block,) = partition(np.zeros((3, 3)), near, 100)
    assert block.core == [0, 1, 2] and block.overlap == []
