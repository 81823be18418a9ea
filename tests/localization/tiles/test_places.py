"""Which of several places a query shows: also one that is no rival of that where the pose was found."""

from dataclasses import replace

import pytest
import torch

from gsplatloc.localization.initial.landmarks import LandmarkPose
from gsplatloc.localization.landmarks.rivals import AlikePlaces
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.queries import Query
from gsplatloc.localization.result import PoseEstimate, Status
from gsplatloc.localization.tiles import places
from gsplatloc.localization.tiles.comparison import FINE, Preference, View
from gsplatloc.localization.tiles.loaded import LoadedTile, LoadedTiles
from gsplatloc.localization.tiles.places import Choice, Place, likelier, place_at, shown, shown_closely
from gsplatloc.utils import se3
from tests.localization.world import CAMERA, TRUTH, FakeExtractor, World

APART = 50.0  # metres along x between places that look alike


def motion(places: int) -> torch.Tensor:
    found = torch.eye(4, dtype=torch.float64)
    found[0, 3] = APART * places
    return found


@pytest.fixture
def tiles(world: World) -> LoadedTiles:
    """Three tiles; 0 and 2 have no rival but 1, which is also twice in the list of 0."""
    return with_rivals(world, {0: [1, 1], 1: [0, 2], 2: [1]})


def with_rivals(world: World, rivals: dict[int, list[int]]) -> LoadedTiles:
    """Tiles that look alike, `APART` from one to the next."""

    def load(number: int) -> LoadedTile:
        away = motion(number)[:3, 3].to(world.landmarks.positions)
        landmarks = replace(world.landmarks, positions=world.landmarks.positions + away)
        motions = torch.stack([motion(other - number) for other in rivals[number]])
        shared = torch.ones(len(motions), len(landmarks), dtype=torch.bool)
        alike = AlikePlaces(torch.tensor(rivals[number]), motions, shared)
        return LoadedTile(number, Localizer(LandmarkPose(landmarks), FakeExtractor(world.features)), alike)

    return LoadedTiles(load, 1e3)


@pytest.fixture
def here(tiles: LoadedTiles, world: World) -> Place:
    return in_first(tiles, world)


def in_first(tiles: LoadedTiles, world: World) -> Place:
    query = Query(None, CAMERA, world.features.keypoints, None)  # type: ignore[arg-type]
    return place_at(tiles[0], PoseEstimate(Status.OK, CAMERA, TRUTH), query)


def looks_like(tile: int, share: float, compared: list[float]):  # noqa: ANN201
    """Preferences of a query for the place of `tile`."""

    def preferred(view: View, other: View, weight: object = None) -> Preference:
        x = [se3.camera_center(one.estimate.pose())[0] - se3.camera_center(TRUTH)[0] for one in (view, other)]
        distance = [abs(float(value) / APART - tile) for value in x]
        compared.append(float(x[1]))
        return Preference(100.0, share if distance[0] < distance[1] else -share)

    return preferred


def test_the_place_is_found_over_the_rivals_of_rivals(
    tiles: LoadedTiles, here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(View, "covers", lambda *_: True)
    for tile in range(3):
        monkeypatch.setattr(View, "preferred_to", looks_like(tile, 0.9, []))
        choice = shown(here, tiles)
        assert choice.place.tile.number == tile and choice.clear and choice.complete
        assert all(rival.tile.number != tile for rival in choice.rivals)
        moved = se3.camera_center(choice.place.estimate.pose()) - se3.camera_center(TRUTH)
        torch.testing.assert_close(moved, motion(tile)[:3, 3])


@pytest.mark.parametrize("shows, clear", [(2, True), (3, True), (4, False), (7, False)])
def test_a_place_whose_rivals_were_not_all_compared_is_not_clear(
    world: World, monkeypatch: pytest.MonkeyPatch, shows: int, clear: bool
) -> None:
    """Rooms in a row, of which each is a rival of its neighbours only; the last that is reached is 3."""
    rooms = 4 if shows == 3 else 8
    row = {room: [other for other in (room - 1, room + 1) if 0 <= other < rooms] for room in range(rooms)}
    tiles = with_rivals(world, row)
    monkeypatch.setattr(View, "covers", lambda *_: True)
    monkeypatch.setattr(View, "preferred_to", looks_like(shows, 0.9, []))
    choice = shown(in_first(tiles, world), tiles)
    assert choice.place.tile.number == min(shows, 3)
    assert choice.clear is choice.complete is clear and (clear or choice.rivals[0].tile.number == 4)


def test_a_place_in_two_tiles_is_compared_once_and_a_doubtful_one_has_a_rival(
    tiles: LoadedTiles, here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[float] = []
    monkeypatch.setattr(View, "covers", lambda *_: True)
    monkeypatch.setattr(View, "preferred_to", looks_like(0, 0.1, compared))
    choice = shown(here, tiles)
    assert choice.place is here and not choice.clear and choice.complete
    assert [rival.tile.number for rival in choice.rivals] == [1]
    assert len(compared) == 1


def test_a_place_that_the_other_map_does_not_show_is_no_rival(
    tiles: LoadedTiles, here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(View, "covers", lambda *_: False)
    assert shown(here, tiles) == Choice(here, [], True)


def fine(place: Place, world: World) -> Place:
    """The place at a pose 2 cm beside it, as after a refinement, to be compared by all pixels."""
    moved = place.estimate.pose().clone()
    moved[0, 3] += 0.02
    return place_at(place.tile, replace(place.estimate, cam_from_world=moved), place.view.query, FINE)


@pytest.mark.parametrize("complete", [True, False])
def test_rivals_are_compared_by_all_pixels_at_the_refined_pose(
    tiles: LoadedTiles, here: Place, world: World, monkeypatch: pytest.MonkeyPatch, complete: bool
) -> None:
    monkeypatch.setattr(View, "covers", lambda *_: True)
    monkeypatch.setattr(places, "distinct", lambda rendered: None)
    monkeypatch.setattr(View, "rendered", None)
    monkeypatch.setattr(View, "explained", True)
    monkeypatch.setattr(View, "preferred_to", looks_like(0, 0.1, []))
    before = replace(shown(here, tiles), complete=complete)
    refined = fine(here, world)
    monkeypatch.setattr(View, "preferred_to", looks_like(1, 0.9, []))
    closely = shown_closely(refined, before)
    assert closely.place.tile.number == 1 and closely.rivals == [refined] and closely.clear is complete
    assert closely.place.view.scale == FINE
    moved = se3.camera_center(closely.place.world) - se3.camera_center(refined.world)
    torch.testing.assert_close(moved, motion(1)[:3, 3])  # the rival's pose is refined with it
    monkeypatch.setattr(View, "explained", False)
    unlike = shown_closely(refined, before)
    assert unlike.place.tile.number == 1 and unlike.rivals == [refined] and not unlike.clear
    monkeypatch.setattr(View, "explained", True)
    monkeypatch.setattr(View, "preferred_to", looks_like(0, 0.1, []))
    assert not shown_closely(refined, before).clear


@pytest.mark.parametrize("covers", [True, False])
def test_a_place_is_not_clear_where_not_all_rivals_were_compared(
    tiles: LoadedTiles, here: Place, world: World, monkeypatch: pytest.MonkeyPatch, covers: bool
) -> None:
    monkeypatch.setattr(View, "covers", lambda *_: True)
    monkeypatch.setattr(View, "preferred_to", looks_like(0, 0.1, []))
    choice = shown(here, tiles)
    monkeypatch.setattr(places, "distinct", lambda rendered: None)
    monkeypatch.setattr(View, "rendered", None)
    monkeypatch.setattr(View, "explained", True)
    monkeypatch.setattr(View, "covers", lambda *_: covers)
    refined, others = fine(here, world), choice.rivals
    for share, rivals, complete, clear in (
        (0.9, others, True, True), (0.9, others, False, False), (0.9, 8 * others, True, True),
        (0.4, 8 * others, True, False),
    ):  # fmt: skip
        monkeypatch.setattr(View, "preferred_to", looks_like(0, share, []))
        closely = shown_closely(refined, replace(choice, rivals=rivals, complete=complete))
        assert closely.place is refined and closely.rivals
        assert closely.clear is closely.complete is clear


def test_a_choice_of_another_place_is_not_clear(here: Place) -> None:
    others = [replace(here) for _ in range(2)]
    choice = Choice(here, others, True)
    assert choice.instead(here) is choice
    assert choice.instead(others[1]) == Choice(others[1], [here, others[0]], False)


def test_a_place_of_another_kind_that_keypoints_match_better_is_likelier(world: World) -> None:
    """The pose is found in tile 0; tile 1 is like it, and 2, which has fewer counterparts, is shown."""
    blurred = torch.nn.functional.normalize(world.landmarks.descriptors + 0.05, dim=1)

    def with_descriptors(shown: int) -> LoadedTiles:
        def load(number: int) -> LoadedTile:
            away = motion(number)[:3, 3].to(world.landmarks.positions)
            descriptors = world.landmarks.descriptors if number == shown else blurred
            positions = world.landmarks.positions + away
            landmarks = replace(world.landmarks, positions=positions, descriptors=descriptors)
            shared = torch.ones(2, len(landmarks), dtype=torch.bool)
            shared[1, ::2] = False
            motions = torch.stack([motion(other - number) for other in (1, 2)])
            alike = AlikePlaces(torch.tensor([1, 2]), motions, shared)
            return LoadedTile(
                number, Localizer(LandmarkPose(landmarks), FakeExtractor(world.features)), alike
            )

        return LoadedTiles(load, 1e3)

    for tile in range(3):
        tiles = with_descriptors(tile)
        found = likelier(in_first(tiles, world), tiles)
        assert (found is not None) is (tile == 2)
    assert found is not None and found.tile.number == 2
    moved = se3.camera_center(found.estimate.pose()) - se3.camera_center(TRUTH)
    torch.testing.assert_close(moved, motion(2)[:3, 3])
