"""Places that look alike are found by their landmarks, with the motion between them."""

from dataclasses import replace
from pathlib import Path

import torch

from gsplatloc.localization.landmarks.file import FILE_NAME as LANDMARKS_NAME
from gsplatloc.localization.landmarks.file import Landmarks, save_landmarks
from gsplatloc.localization.landmarks.rivals import FILE_NAME, load_alike
from gsplatloc.localization.tiles.place_index import PlaceIndex, PlaceWords
from gsplatloc.mapping.tiles import alike
from gsplatloc.mapping.tiles.alike import find_alike, similar_tiles, write_alike
from gsplatloc.scene.map_config import MapConfig, write_config
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.scene.tiled_map import Tile
from gsplatloc.utils import se3

MOTION = se3.se3_exp(torch.tensor([9.0, -2.0, 0.1, 0.0, 0.0, 3.0], dtype=torch.float64))
COUNT, OWN = 400, 100  # landmarks of a place, and how many of them the other one does not have


def unit(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, 64, generator=generator), dim=1)


def room(seed: int = 0) -> Landmarks:
    positions = 4 * torch.rand(COUNT, 3, generator=torch.Generator().manual_seed(seed))
    directions = torch.tensor([[0.0, 0.0, 1.0]]).repeat(COUNT, 1)
    distances = torch.tensor([[2.0, 3.0]]).repeat(COUNT, 1)
    lengths = torch.full((COUNT,), 5, dtype=torch.int32)
    return Landmarks(positions, unit(COUNT, seed), directions, distances, lengths, "test-1")


def twin(place: Landmarks) -> Landmarks:
    """The place moved, with other descriptors of the first `OWN` landmarks."""
    moved = place.positions.double() @ MOTION[:3, :3].T + MOTION[:3, 3]
    descriptors = place.descriptors.clone()
    descriptors[:OWN] = unit(OWN, 7)
    return replace(place, positions=moved.float(), descriptors=descriptors)


def test_a_twin_is_found_with_its_motion_and_what_both_have() -> None:
    tiles = [room(), twin(room()), room(seed=5)]
    found = find_alike([(0, 1), (0, 2), (1, 2)], tiles.__getitem__)
    assert sorted(found) == [0, 1]
    assert found[0].tiles.tolist() == [1] and found[1].tiles.tolist() == [0]
    torch.testing.assert_close(found[0].motions[0], MOTION, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1].motions[0], se3.inverse(MOTION), atol=1e-5, rtol=0)
    for places in found.values():
        assert not places.shared[0, :OWN].any() and places.shared[0, OWN:].all()


def test_the_overlap_of_two_tiles_is_no_rival_and_a_tile_may_have_one_within() -> None:
    both = [torch.cat(parts) for parts in zip(*(
        (p.positions, p.descriptors, p.directions, p.distances, p.lengths) for p in (room(), twin(room()))
    ))]  # fmt: skip
    tiles = [room(), room(), Landmarks(*both, "test-1")]
    assert find_alike([(0, 1)], tiles.__getitem__) == {}
    found = find_alike([(2, 2)], tiles.__getitem__)
    assert found[2].tiles.tolist() == [2, 2]  # there and back


def index_of(described: torch.Tensor, tiles: list[int]) -> PlaceIndex:
    poses = torch.eye(4, dtype=torch.float64).repeat(len(tiles), 1, 1)
    poses[:, 0, 3] = -10.0 * torch.tensor(tiles)  # the tiles are 10 m apart
    words = PlaceWords(torch.zeros(1, 4), torch.zeros(4), torch.zeros(4, 4))
    return PlaceIndex(words, described, poses, torch.tensor(tiles))


def test_tiles_with_similar_views_elsewhere_are_compared() -> None:
    looks = torch.eye(8)
    numbers = [tile for tile in range(40) for _ in range(10)]
    look_of = [0 if tile in (3, 30) else 1 + tile % 7 for tile in numbers]
    index = index_of(looks[look_of], numbers)
    found = similar_tiles(index, 40, apart=2.0)
    assert (3, 30) in found and (3, 3) not in found
    assert all(a <= b for a, b in found)


def test_places_are_compared_once_and_motions_are_those_of_the_world(tmp_path: Path, monkeypatch) -> None:
    tiles = []
    for number, landmarks in enumerate([room(), twin(room())]):
        folder = tmp_path / f"tiles/{number:03d}"
        folder.mkdir(parents=True)
        save_landmarks(landmarks, folder / LANDMARKS_NAME)
        write_config(folder, MapConfig("scene", SceneOptions(), "cpu"))
        tiles.append(Tile(f"tiles/{number:03d}", 10, 0, key=f"{number}", landmarks=COUNT))
    index = index_of(torch.ones(20, 4) / 2, [0] * 10 + [1] * 10)
    assert write_alike(tmp_path, tiles, index) == 1
    found = load_alike(tmp_path / tiles[0].folder / FILE_NAME, 2, COUNT)
    torch.testing.assert_close(found.motions[0], MOTION, atol=1e-3, rtol=0)  # descriptors have 8 bits
    monkeypatch.setattr(alike, "find_alike", lambda *_: 1 / 0)
    assert write_alike(tmp_path, tiles, index) == 1
    path = tmp_path / tiles[0].folder / FILE_NAME
    whole = path.read_bytes()
    monkeypatch.undo()
    for stale in (whole[: len(whole) // 2], b""):  # damaged; of other tiles below
        path.write_bytes(stale)
        assert write_alike(tmp_path, tiles, index) == 1
        assert path.read_bytes() == whole
    save_landmarks(room().select(torch.arange(COUNT - 20)), tmp_path / tiles[0].folder / LANDMARKS_NAME)
    tiles[0] = replace(tiles[0], key="other", landmarks=COUNT - 20)
    assert write_alike(tmp_path, tiles, index) == 1


def test_places_are_told_apart_far_from_the_middle() -> None:
    far = replace(room(), positions=room().positions + torch.tensor([800.0, 800.0, 0.0]))
    assert not len(alike.similar_apart(far, far)[0])
    still = torch.eye(4, dtype=torch.float64)
    assert alike.has_counterpart(far, far, still).all()
