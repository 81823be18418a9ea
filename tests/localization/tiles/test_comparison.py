"""Which of two renderings an image shows: what differs decides, whatever the rest."""

import cv2
import numpy as np
import pytest
import torch

from gsplatloc.localization.tiles.comparison import (
    COARSE,
    Picture,
    Preference,
    Rendered,
    View,
    distinct,
    preference,
    unlikeness,
)

ROWS, COLUMNS = 32, 40
_NOISE = 0.05


def rooms(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The colours of two rooms that differ in a picture of 6 x 5 cells."""
    random = np.random.default_rng(seed)
    first = random.uniform(0.2, 0.8, (ROWS, COLUMNS, 3)).astype(np.float32)
    second = first.copy()
    second[4:10, 20:25] = random.uniform(0, 1, (6, 5, 3))
    return first, second


def seen(colors: np.ndarray, seed: int = 1) -> Picture:
    noise = np.random.default_rng(seed).normal(0, _NOISE, colors.shape)
    return Picture((colors + noise).astype(np.float32), np.full_like(colors, _NOISE**2))


def covered(colors: np.ndarray) -> Rendered:
    return Rendered(colors, np.ones(colors.shape[:2], bool))


def test_an_image_shows_the_place_whose_picture_it_has() -> None:
    first, second = rooms()
    for room, sign in ((first, 1), (second, -1)):
        found = preference(seen(room), covered(first), covered(second))
        assert sign * found.score > 1 and sign * found.share > 0.7 and sign * found.evidence > 50


def test_a_darker_image_shows_the_same_place() -> None:
    first, second = rooms()
    assert preference(seen(0.6 * first), covered(first), covered(second)).share > 0.5


def test_equal_places_and_pictures_of_neither_are_not_clear() -> None:
    first, second = rooms()
    assert abs(preference(seen(first), covered(first), covered(first)).score) < 1
    middle = (first + second) / 2
    assert abs(preference(seen(middle), covered(first), covered(second)).score) < 1


def test_what_is_equal_and_mapped_with_errors_does_not_count() -> None:
    first, second = rooms()
    errors = np.random.default_rng(5).normal(0, 0.5 * _NOISE, (2, *first.shape)).astype(np.float32)
    image = second.copy()
    image[10:] = (first + errors[0])[10:]  # as if the errors of the wrong map were those of the image
    found = preference(seen(image), covered(first + errors[0]), covered(second + errors[1]))
    assert found.share < -0.75


def test_what_one_map_does_not_cover_does_not_count() -> None:
    first, second = rooms()
    hole = covered(second)
    hole.covered[4:10, 20:25] = False
    assert abs(preference(seen(first), covered(first), hole).score) < 1
    nothing = Rendered(second, np.zeros((ROWS, COLUMNS), bool))
    assert preference(seen(first), covered(first), nothing) == Preference(0.0, 0.0)


def test_a_foreign_object_counts_no_more_than_one_of_the_places() -> None:
    first, second = rooms()
    image = first.copy()
    image[4:10, 20] = 5.0  # far outside of both
    found = preference(seen(image), covered(first), covered(second))
    assert abs(found.share) <= 1 and found.share > 0.4


def test_landmarks_that_speak_for_the_other_place_leave_it_open() -> None:
    assert Preference(30.0, 0.2, 2.0).score > 1 and Preference(-30.0, -0.2, -2.0).score < -1
    assert abs(Preference(30.0, 0.9, -9.0).score) < 1
    assert 0 < Preference(-30.0, -0.3, 20.0).score < 1  # which of them is more probable is known
    assert Preference(0.1, 1.0, 0.0).score < 1  # a difference that is hardly there


def test_where_the_map_of_one_place_is_blurred_is_not_where_places_differ() -> None:
    """Five rooms have a picture of their own; what they have in common is wrong in the map of the first."""
    first, second = rooms()
    random = np.random.default_rng(7)
    all_rooms = [first, second, *(first.copy() for _ in range(3))]
    for room in all_rooms[2:]:
        room[4:10, 20:25] = random.uniform(0, 1, (6, 5, 3))
    image = seen(first)
    maps = [covered(room.copy()) for room in all_rooms]
    maps[0].colors[14:30] = np.clip(first[14:30] + random.normal(0, 0.4, (16, COLUMNS, 3)), 0, 1)
    assert preference(image, maps[0], maps[1]).share < 0
    weight = distinct(maps)
    assert weight is not None and weight[4:10, 20:25].min() > 0.5 and weight[14:30].max() < 0.01
    assert preference(image, maps[0], maps[1], weight).score > 1
    assert distinct(maps[:3]) is None


def test_what_maps_do_not_cover_is_not_where_places_differ() -> None:
    """Two of five maps have a hole; a part that three of them do not cover tells nothing."""
    first, _ = rooms()
    maps = [covered(first.copy()) for _ in range(5)]
    for number, place in enumerate(maps):
        place.colors[4:10, 20:25] = np.random.default_rng(number).uniform(0, 1, (6, 5, 3))
    maps[0].colors[14:20], maps[0].covered[14:20] = 5.0, False
    for place in maps[:2]:
        place.colors[4:6, 20:25], place.covered[4:6, 20:25] = 0.0, False
    weight = distinct(maps)
    assert weight is not None and weight[14:20].max() == 0 and weight[4:6, 20:25].max() == 0
    assert weight[6:10, 20:25].min() > 0.2 and np.isfinite(weight).all()


def test_a_blurred_map_explains_an_image_and_one_with_another_picture_does_not() -> None:
    """Cells are pixels here, of 96 x 120."""
    first = np.kron(rooms()[0], np.ones((3, 3, 1))).astype(np.float32)
    first[12:30, 60:75], second = 0.2, first.copy()
    second[12:30, 60:75] = 0.6
    blurred = cv2.GaussianBlur(first, (0, 0), 2.0)
    assert unlikeness(seen(first), covered(blurred)) < 0.2 < 0.3 < unlikeness(seen(first), covered(second))
    assert unlikeness(seen(0.7 * first), covered(first)) < 0.1  # a darker image shows the same place
    hole = covered(second.copy())
    hole.covered[12:30, 60:75] = False  # the picture
    hole.colors[12:30, 60:75] = 9.0
    assert unlikeness(seen(first), hole) < 0.1
    hole.covered[:] = False
    assert unlikeness(seen(first), hole) == 0
    coarse = [cv2.resize(cells, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA) for cells in (first, second)]
    assert unlikeness(seen(coarse[0]), covered(coarse[1]), COARSE.blur) > 0.3


@pytest.mark.parametrize("sign", [1, -1])
def test_landmarks_are_asked_where_a_single_cell_differs(sign: int) -> None:
    first, second = np.full((2, ROWS, COLUMNS, 3), 0.5, np.float32)
    second[4, 20] += 0.06
    shown = {1: first, -1: second}[sign]
    one = preference(Picture(shown, np.full_like(shown, _NOISE**2)), covered(first), covered(second))
    assert sign * one.share > 0.9 and sign * one.evidence > 1.5
    assert abs(one.score) < 1

    def view(rendering: np.ndarray, similarities: list[float]) -> View:
        made = View(None, None, None, None)  # type: ignore[arg-type]
        values = {"picture": Picture(shown, np.full_like(shown, _NOISE**2)), "rendered": covered(rendering)}
        made.__dict__.update(values, similarities=torch.tensor(similarities))
        return made

    both = view(first, [sign * -2.0, 0.0]), view(second, [0.0, 0.0])
    found = both[0].preferred_to(both[1])
    assert found.landmarks == sign * -2.0 and abs(found.score) < 1
