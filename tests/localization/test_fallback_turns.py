"""The cascade in quarter turns of the image: which of them are tried, and what counts in them."""

import numpy as np
import pytest
import torch

from gsplatloc.localization.fallback import FALLBACK, Fallback
from gsplatloc.localization.initial.given import GivenPose
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.quarter_turns import turn_estimate, turn_image, turn_known
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine import Refiner
from gsplatloc.localization.result import Localization, PoseEstimate, Status
from tests.localization.rendered_room import CAMERA, Moves, Room, Views
from tests.localization.world import FakeExtractor, make_world


class Upright:
    """An initial pose that knows the turned image only, and remembers what it was asked."""

    name = "upright"

    def __init__(self, room: Room, quarters: int) -> None:
        turned = turn_estimate(PoseEstimate(Status.OK, CAMERA, room.truth), quarters)
        self.right, self.image, self.asked = turned, turn_image(room.query.image, quarters), 0

    def hypotheses(self, query: Query) -> list[PoseEstimate]:
        self.asked += 1
        if np.array_equal(query.image, self.image):
            return [self.right]
        return [PoseEstimate(Status.NO_CONSENSUS, query.camera)]


def in_turns(
    room: Room, initial: Upright, supports: list[float], refiner: Refiner, search: Refiner | None = None
) -> Localization:
    """The localization of an image of which `supports` are the sums as given and in each quarter turn."""
    fallback = Fallback(room.splat_map, [search or Moves(None)], (), lambda keypoints: supports.pop(0))
    extractor = FakeExtractor(make_world().features)
    localizer = Localizer(initial, extractor, room.splat_map, [refiner], None, True, fallback)
    return localizer.localize(room.query.image, CAMERA)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_only_the_turn_that_matches_the_map_best_is_tried(room: Room, quarters: int) -> None:
    supports = [2.0, 3.0, 3.0, 3.0]
    supports[quarters] = 5.0
    initial = Upright(room, quarters)
    found = in_turns(room, initial, supports, Moves(initial.right.pose(), verifies=True))
    assert found.status is Status.OK and initial.asked == 2 and not supports
    torch.testing.assert_close(found.final.pose(), room.truth)
    assert found.final.camera == CAMERA


def test_the_search_goes_on_in_the_turn_that_matches_the_map_best(room: Room) -> None:
    initial = Upright(room, 1)
    found = in_turns(room, initial, [2.0, 5.0, 3.0, 3.0], Moves(None), Moves(initial.right.pose()))
    assert found.status is Status.OK and FALLBACK in found.stages
    torch.testing.assert_close(found.final.pose(), room.truth)


@pytest.mark.parametrize("support, quarters", [(0.3, 0), (3.0, 1)])
def test_without_a_pose_in_either_a_turn_that_hardly_matches_the_map_is_not_searched(
    room: Room, support: float, quarters: int
) -> None:
    supports, searched = [0.1, support, 0.1, 0.1], []

    class Records(Views):
        def hypotheses(self, query: Query) -> list[PoseEstimate]:
            searched.append(query.camera)
            return []

    search = Fallback(room.splat_map, [Moves(None)], [Records], lambda keypoints: supports.pop(0))
    extractor = FakeExtractor(make_world().features)
    Localizer(GivenPose(), extractor, room.splat_map, [Moves(None)], None, True, search).localize(
        room.query.image, CAMERA
    )
    assert searched == [turn_known(CAMERA, quarters)]


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_every_turn_is_tried_where_no_turn_matches_the_map_and_there_is_no_pose(
    room: Room, quarters: int
) -> None:
    """An office's image of little texture: sums of 0.31 upright, 0.34, 0.25 and 0.21 turned."""
    supports = [0.2, 0.34, 0.34, 0.34]
    supports[quarters] = 0.1
    initial = Upright(room, quarters)
    found = in_turns(room, initial, supports, Moves(initial.right.pose(), verifies=True))
    assert found.status is Status.OK and initial.asked == 5  # the right turn twice: with few keypoints first
    torch.testing.assert_close(found.final.pose(), room.truth)


def test_an_unverified_pose_in_a_turn_that_does_not_match_the_map_does_not_count(room: Room) -> None:
    """An image of another place had one in 1 of 64."""
    initial = Upright(room, 2)
    found = in_turns(room, initial, [0.2, 0.34, 0.34, 0.34], Moves(None))
    assert found.status is Status.NO_CONSENSUS and initial.asked == 5


def test_no_turn_is_tried_where_none_matches_the_map_better(room: Room) -> None:
    initial = Upright(room, 2)
    found = in_turns(room, initial, [3.0, 2.0, 3.0, 1.0], Moves(None))
    assert found.status is Status.NO_CONSENSUS and initial.asked == 1
    stages_ms = sum(stage.elapsed_ms for stage in found.stages.values())
    assert found.search_ms > 0 and found.total_ms == found.features_ms + stages_ms + found.search_ms
