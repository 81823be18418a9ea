"""The rivals of a tile: which are plausible at a pose, and their file."""

from pathlib import Path

import pytest
import torch

from gsplatloc.localization.landmarks.guided import visible
from gsplatloc.localization.landmarks.rivals import (
    NONE_ALIKE,
    AlikePlaces,
    load_alike,
    same_places,
    save_alike,
)
from gsplatloc.localization.result import PoseEstimate, Status
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from tests.localization.world import CAMERA, TRUTH, World

ESTIMATE = PoseEstimate(Status.OK, CAMERA, TRUTH)


def places(world: World, shares: list[float]) -> AlikePlaces:
    """Rivals in tiles 1, 2, ... with these shares of the landmarks in view."""
    seen = visible(world.landmarks, TRUTH, CAMERA, 0.0)
    shared = torch.zeros(len(shares), len(world.landmarks), dtype=torch.bool)
    for row, share in zip(shared, shares):
        row[seen[: round(share * len(seen))]] = True
    motions = torch.eye(4, dtype=torch.float64).repeat(len(shares), 1, 1)
    return AlikePlaces(torch.arange(1, len(shares) + 1), motions, shared, "key")


def test_rivals_with_nearly_as_many_counterparts_in_view_as_the_first_are_plausible(world: World) -> None:
    found = places(world, [0.4, 0.7, 0.65, 0.1])
    assert found.plausible(ESTIMATE, world.landmarks) == [1, 2]
    assert places(world, [0.1]).plausible(ESTIMATE, world.landmarks) == []
    assert NONE_ALIKE.plausible(ESTIMATE, world.landmarks) == []


def test_rivals_of_other_kinds_come_in_the_order_of_the_matches_they_share(world: World) -> None:
    found = places(world, [0.7, 0.65, 0.4, 0.4])
    seen = visible(world.landmarks, TRUTH, CAMERA, 0.0)
    found.shared[3] = False
    found.shared[3, seen[-round(0.4 * len(seen)) :]] = True  # as many as 2, and others
    assert found.of_other_kinds(ESTIMATE, world.landmarks, seen[:20]) == [2, 3]
    assert found.of_other_kinds(ESTIMATE, world.landmarks, seen[-20:]) == [3, 2]
    assert found.of_other_kinds(ESTIMATE, world.landmarks, seen[:0]) == []
    assert NONE_ALIKE.of_other_kinds(ESTIMATE, world.landmarks, seen) == []


def test_places_that_two_tiles_show_are_the_same(world: World) -> None:
    found = places(world, [0.5, 0.5, 0.5, 0.5])
    found.motions[1, 0, 3], found.motions[2, 0, 3], found.motions[3, :2, :2] = 0.05, 3.0, -torch.eye(2)
    poses = found.corresponding(TRUTH)
    moved = found.motions @ se3.inverse(TRUTH)
    torch.testing.assert_close(se3.inverse(poses), moved)  # the camera is moved onto the rival
    assert same_places(poses[:1], poses, 0.25).tolist() == [[True, True, False, False]]
    turned = poses[0].clone()
    turned[:3] = torch.diag(torch.tensor([-1.0, 1.0, -1.0])).double() @ turned[:3]  # half a turn on the spot
    assert not same_places(poses[:1], turned[None], 0.25).any()


def test_rivals_are_read_as_they_were_written(world: World, tmp_path: Path) -> None:
    path, written = tmp_path / "alike.safetensors", places(world, [0.4, 0.7])
    assert load_alike(path, 3, len(world.landmarks)) is NONE_ALIKE
    save_alike(written, path)
    found = load_alike(path, 3, len(world.landmarks))
    assert found.key == "key" and torch.equal(found.shared, written.shared)
    assert torch.equal(found.tiles, written.tiles) and torch.equal(found.motions, written.motions)
    for tiles, landmarks in ((2, len(world.landmarks)), (3, 10)):
        with pytest.raises(GSplatLocError, match="map the scene again"):
            load_alike(path, tiles, landmarks)


def test_a_tile_without_rivals_has_a_file_as_well(tmp_path: Path) -> None:
    save_alike(NONE_ALIKE, tmp_path / "alike.safetensors")
    assert len(load_alike(tmp_path / "alike.safetensors", 1, 50)) == 0
