"""Localization in tiles: which are loaded, tried and dropped."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from gsplatloc.localization.fallback import Fallback
from gsplatloc.localization.features import Features
from gsplatloc.localization.initial.landmarks import LandmarkPose
from gsplatloc.localization.landmarks.rivals import AlikePlaces
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.options import LocalizerOptions
from gsplatloc.localization.queries import Query
from gsplatloc.localization.result import PoseEstimate
from gsplatloc.localization.tiles import localizer
from gsplatloc.localization.tiles.comparison import Preference, View
from gsplatloc.localization.tiles.loaded import LoadedTile, LoadedTiles
from gsplatloc.localization.tiles.localizer import TiledLocalizer
from gsplatloc.localization.tiles.options import TileOptions
from gsplatloc.localization.tiles.place_index import PlaceIndex, PlaceWords, load_places, save_places
from gsplatloc.localization.tiles.places import Choice, Place, place_at
from gsplatloc.localization.tiles.shared_extractor import SharedExtractor
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.scene.tiled_map import Tile, write_tiles
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from tests.localization.world import CAMERA, TRUTH, FakeExtractor, World, pose_errors

IMAGE = np.zeros((480, 640, 3), np.uint8)
AWAY = torch.tensor([50.0, 0.0, 0.0])  # metres from the place to the one that looks like it


class CountingExtractor(FakeExtractor):
    """Counts the images."""

    count = 0

    def extract(self, image: np.ndarray) -> Features:
        self.count += 1
        return super().extract(image)


class RetrievedViews(PlaceIndex):
    """An index in which the same views are the most similar to every query."""

    found: list[int]

    def nearest(self, dense: torch.Tensor, count: int) -> torch.Tensor:
        return torch.tensor(self.found)


def place_index(found: list[int]) -> RetrievedViews:
    """Views 0 to 29 at the true place (tile 0) and 30 to 59 at the other one (tile 1)."""
    generator = torch.Generator().manual_seed(0)
    words = torch.nn.functional.normalize(torch.randn(4, 64, generator=generator), dim=1)
    place = PlaceWords(words, torch.zeros(256), torch.eye(256)[:, :8].contiguous())
    poses = TRUTH.repeat(60, 1, 1)
    poses[30:, :3, 3] -= poses[30:, :3, :3] @ AWAY.double()
    descriptors = torch.nn.functional.normalize(torch.randn(60, 8, generator=generator), dim=1)
    index = RetrievedViews(place, descriptors, poses, torch.arange(60) // 30)
    object.__setattr__(index, "found", found)
    return index


@pytest.fixture
def extractor(world: World) -> CountingExtractor:
    dense = torch.randn(64, 60, 80, generator=torch.Generator().manual_seed(3))
    return CountingExtractor(Features(world.features.keypoints, dense))


def test_without_rivals_only_the_most_similar_tile_is_read_and_features_are_extracted_once(
    world: World, extractor: CountingExtractor, tmp_path: Path
) -> None:
    loaded, shared = [], SharedExtractor(extractor)

    def load(number: int) -> LoadedTile:
        loaded.append(number)
        return LoadedTile(number, Localizer(LandmarkPose(world.landmarks), shared))

    tiled = TiledLocalizer(tmp_path, place_index([3, 35]), load, shared)
    found = tiled.localize(IMAGE, CAMERA)
    assert found.verified and found.rival is None
    assert pose_errors(found.final.pose(), TRUTH)[0] < 0.02
    assert loaded == [0] and extractor.count == 1


def test_the_next_tile_is_tried_where_the_most_similar_one_has_no_pose(
    world: World, extractor: CountingExtractor, tmp_path: Path
) -> None:
    other = replace(world.landmarks, descriptors=world.landmarks.descriptors.flip(1))
    places = [other, world.landmarks]

    def load(number: int) -> LoadedTile:
        return LoadedTile(number, Localizer(LandmarkPose(places[number]), extractor))

    found = TiledLocalizer(tmp_path, place_index([3, 35]), load, extractor).localize(IMAGE, CAMERA)
    assert found.verified and pose_errors(found.final.pose(), TRUTH)[0] < 0.02


class ScaledExtractor(FakeExtractor):
    """Returns the world's keypoints in the scale of the image."""

    def extract(self, image: np.ndarray) -> Features:
        keypoints = self.features.keypoints
        scaled = keypoints.xy * image.shape[1] / CAMERA.width
        return Features(replace(keypoints, xy=scaled), self.features.dense)


def test_a_pose_is_moved_to_a_tile_whose_images_have_another_size(
    world: World, extractor: CountingExtractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image shows tile 1, mapped with images of half the size; it is found first in tile 0."""
    monkeypatch.setattr(View, "covers", lambda *_: True)
    scaled = ScaledExtractor(extractor.features)

    def preferred(view: View, other: View, weight: object = None) -> Preference:
        centers = [se3.camera_center(one.estimate.pose())[0] for one in (view, other)]
        return Preference(100.0, 0.9 if centers[0] > centers[1] else -0.9)

    monkeypatch.setattr(View, "preferred_to", preferred)

    def load(number: int) -> LoadedTile:
        landmarks = replace(world.landmarks, positions=world.landmarks.positions + number * AWAY)
        motion = torch.eye(4, dtype=torch.float64)
        motion[:3, 3] = (1 - 2 * number) * AWAY.double()
        shared = torch.ones(1, len(landmarks), dtype=torch.bool)
        alike = AlikePlaces(torch.tensor([1 - number]), motion[None], shared)
        size = 640 // (1 + number)
        return LoadedTile(number, Localizer(LandmarkPose(landmarks), scaled, max_side=size), alike)

    found = TiledLocalizer(tmp_path, place_index([3, 35]), load, scaled).localize(IMAGE, CAMERA)
    assert found.verified and found.rival is None and found.final.camera == CAMERA
    moved = TRUTH.clone()
    moved[:3, 3] -= moved[:3, :3] @ AWAY.double()
    assert pose_errors(found.final.pose(), moved)[0] < 0.02


@pytest.fixture(autouse=True)
def explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps without Gaussians are not rendered: each has the colours of the image."""
    monkeypatch.setattr(View, "explained", True)


def one_of_two_alike(world: World, extractor: CountingExtractor, number: int) -> LoadedTile:
    """Tile 0 or 1 of two, the second at AWAY, each with the other as the rival of all its landmarks."""
    landmarks = replace(world.landmarks, positions=world.landmarks.positions + number * AWAY)
    motion = torch.eye(4, dtype=torch.float64)[None]
    alike = AlikePlaces(torch.tensor([1 - number]), motion, torch.ones(1, len(landmarks)).bool())
    return LoadedTile(number, Localizer(LandmarkPose(landmarks), extractor), alike)


@pytest.mark.parametrize("rival_at, taken", [(1, False), (3, True)])
def test_another_tile_decides_only_for_a_place_that_was_not_compared(
    world: World,
    extractor: CountingExtractor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rival_at: int,
    taken: bool,
) -> None:
    """Tile 0 cannot tell its place from one `rival_at` times AWAY; tile 1, at AWAY, is sure of its own."""
    load = partial(one_of_two_alike, world, extractor)

    def shown(here: Place, tiles: LoadedTiles) -> Choice:
        moved = here.estimate.pose().clone()
        moved[:3, 3] -= moved[:3, :3] @ (rival_at * AWAY).double()
        rival = place_at(here.tile, replace(here.estimate, cam_from_world=moved), here.view.query)
        return Choice(here, [rival] if here.tile.number == 0 else [], here.tile.number == 1)

    monkeypatch.setattr(localizer, "shown", shown)
    monkeypatch.setattr(localizer, "likelier", lambda *_: None)
    monkeypatch.setattr(localizer, "shown_closely", lambda here, before: replace(before, place=here))
    found = TiledLocalizer(tmp_path, place_index([3, 35]), load, extractor).localize(IMAGE, CAMERA)
    assert found.verified is taken and (found.rival is None) is taken
    moved = TRUTH.clone()
    moved[:3, 3] -= moved[:3, :3] @ (taken * AWAY).double()
    assert pose_errors(found.final.pose(), moved)[0] < 0.02


@pytest.mark.parametrize("taken", [False, True])
def test_another_tile_is_tried_where_the_rendering_lacks_a_picture(
    world: World, extractor: CountingExtractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    """Both tiles are sure of their place; the first pose stays if neither has the colours of the image."""
    load = partial(one_of_two_alike, world, extractor)

    def explained(view: View) -> bool:
        return taken and float(se3.camera_center(view.estimate.pose())[0]) > float(AWAY[0]) / 2

    monkeypatch.setattr(View, "explained", property(explained))
    monkeypatch.setattr(localizer, "likelier", lambda *_: None)
    monkeypatch.setattr(localizer, "shown", lambda here, tiles: Choice(here, [], True))
    found = TiledLocalizer(tmp_path, place_index([3, 35]), load, extractor).localize(IMAGE, CAMERA)
    moved = TRUTH.clone()
    moved[:3, 3] -= moved[:3, :3] @ (taken * AWAY).double()
    assert found.verified and pose_errors(found.final.pose(), moved)[0] < 0.02


def test_a_room_of_other_furniture_is_continued_with(
    world: World, extractor: CountingExtractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = partial(one_of_two_alike, world, extractor)

    def likelier(here: Place, tiles: LoadedTiles) -> Place | None:
        moved = here.estimate.pose().clone()
        moved[:3, 3] -= moved[:3, :3] @ AWAY.double()
        return place_at(tiles[1], replace(here.estimate, cam_from_world=moved), here.view.query)

    monkeypatch.setattr(localizer, "likelier", likelier)
    for clear in (True, False):  # a pose that most matches agree with is looked at no further
        choice = lambda here, tiles, clear=clear: Choice(here, [], clear or here.tile.number == 1)  # noqa: E731
        monkeypatch.setattr(localizer, "shown", choice)
        monkeypatch.setattr(localizer, "_AGREEING", 0.0)
        found = TiledLocalizer(tmp_path, place_index([3]), load, extractor).localize(IMAGE, CAMERA)
        moved = TRUTH.clone()
        moved[:3, 3] -= moved[:3, :3] @ ((not clear) * AWAY).double()
        assert found.verified and pose_errors(found.final.pose(), moved)[0] < 0.02


def test_a_wrong_camera_is_replaced_in_a_tile_with_rivals(
    world: World, extractor: CountingExtractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(View, "covers", lambda *_: True)
    monkeypatch.setattr(View, "preferred_to", lambda *_: Preference(100.0, 9.0))

    def load(number: int) -> LoadedTile:
        motion = torch.eye(4, dtype=torch.float64)
        motion[:3, 3] = AWAY.double()
        shared = torch.ones(1, len(world.landmarks), dtype=torch.bool)
        alike = AlikePlaces(torch.tensor([1 - number]), motion[None], shared)
        return LoadedTile(number, Localizer(LandmarkPose(world.landmarks), extractor), alike)

    wrong = replace(CAMERA, fx=0.8 * CAMERA.fx, fy=0.8 * CAMERA.fy)
    found = TiledLocalizer(tmp_path, place_index([3]), load, extractor).localize(IMAGE, wrong)
    assert found.camera_replaced and found.final.camera.fx == pytest.approx(CAMERA.fx, rel=0.02)
    assert pose_errors(found.final.pose(), TRUTH)[0] < 0.03


class Rejecting:
    """A refiner that accepts no pose."""

    name, verifies = "lm", True

    def refine(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate:
        return replace(initial, accepted=False)


class Searching(Fallback):
    """A fallback that accepts the pose found so far."""

    def search(
        self, query: Query, prepared: Query, found: PoseEstimate, score: float | None
    ) -> tuple[PoseEstimate, float | None]:
        return replace(found, accepted=True), score


def test_a_pose_that_no_refinement_accepted_is_searched_for_as_in_one_map(
    world: World, extractor: CountingExtractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsplatloc.localization.localizer.verification_score", lambda *_: 0.9)

    def load(number: int) -> LoadedTile:
        fallback, initial = Searching(SplatMap(), ()), LandmarkPose(world.landmarks)
        return LoadedTile(number, Localizer(initial, extractor, refiners=[Rejecting()], fallback=fallback))

    found = TiledLocalizer(tmp_path, place_index([3, 35]), load, extractor).localize(IMAGE, CAMERA)
    assert list(found.stages) == ["initial", "lm", "fallback"] and found.verified and found.final.accepted


def test_the_views_around_a_pose_that_look_the_same_way_come_first() -> None:
    index = place_index([])
    index.poses[:29, :3] = torch.diag(torch.tensor([-1.0, 1.0, -1.0])).double() @ TRUTH[:3]  # behind
    around = index.around(TRUTH, 30)
    assert around[0] == 29 and sorted(around.tolist()) == list(range(30))


def test_the_tile_used_longest_ago_is_dropped_beyond_the_budget(world: World) -> None:
    made = []

    def load(number: int) -> LoadedTile:
        made.append(number)
        return LoadedTile(number, Localizer(LandmarkPose(world.landmarks), FakeExtractor(world.features)))

    size = load(0).nbytes() / 1e6
    made.clear()
    assert size > 0.05
    tiles = LoadedTiles(load, memory_mb=2.5 * size)
    for number in (0, 1, 0, 2, 0, 1):
        assert tiles[number].number == number
    assert made == [0, 1, 2, 1]
    assert tiles.numbers() == [0, 1]
    tiny = LoadedTiles(load, memory_mb=1e-6)  # one tile is kept all the same
    assert tiny[5] is tiny[5]


def test_an_index_is_read_as_it_was_written(tmp_path: Path) -> None:
    index, path = place_index([]), tmp_path / "tiles.safetensors"
    save_places(index, path)
    found = load_places(path, 2)
    torch.testing.assert_close(found.descriptors, index.descriptors, atol=1e-3, rtol=0)
    assert torch.equal(found.poses, index.poses) and torch.equal(found.tiles, index.tiles)
    torch.testing.assert_close(found.centers[45], se3.camera_center(TRUTH) + AWAY.double())
    with pytest.raises(GSplatLocError, match="map the scene again"):
        load_places(path, 1)  # a view of a second tile


def test_one_map_is_not_a_map_in_tiles(tmp_path: Path) -> None:
    write_tiles(tmp_path, [Tile("tiles/000", 1, 0)])
    with pytest.raises(GSplatLocError, match="one in tiles"):
        Localizer.load(tmp_path, LocalizerOptions())


def test_options_without_a_candidate_are_a_users_error() -> None:
    with pytest.raises(GSplatLocError, match="at least one"):
        TileOptions(candidates=0)
