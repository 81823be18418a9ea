"""Views ranked by the landmarks that they have in common with a query, in a world with known ground truth."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from gsplatloc.localization.features import Keypoints
from gsplatloc.localization.landmarks.covisible import MIN_COMMON, AnotherPlace, CovisibleViews
from gsplatloc.localization.landmarks.file import Landmarks
from gsplatloc.localization.queries import Query
from gsplatloc.scene.cameras import PosedCamera
from gsplatloc.utils import se3
from tests.localization.world import CAMERA, VERSION, make_world

FRONT, SIDE = 40, 400  # landmarks in front of the cameras, and to their right


def turned(degrees: float) -> PosedCamera:
    """A camera at the origin, turned to the right about its vertical axis."""
    xi = torch.tensor([0, 0, 0, 0, -torch.pi / 180 * degrees, 0], dtype=torch.float64)
    return PosedCamera(CAMERA, se3.se3_exp(xi))


def room() -> Landmarks:
    """Landmarks around the direction z, and many around the direction 45 degrees to the right of it."""
    generator = torch.Generator().manual_seed(0)
    angle = torch.cat([torch.zeros(FRONT), torch.full((SIDE,), 0.8)])
    angle = angle + 0.1 * torch.rand(FRONT + SIDE, generator=generator)
    positions = 3 * torch.stack([angle.sin(), torch.zeros_like(angle), angle.cos()], 1)
    count = len(positions)
    descriptors = F.normalize(torch.randn(count, 64, generator=generator), dim=1)
    distances, lengths = torch.tensor([2.0, 4.0]).repeat(count, 1), torch.full((count,), 5).int()
    return Landmarks(positions, descriptors, -F.normalize(positions, dim=1), distances, lengths, VERSION)


VIEWS = (turned(0), turned(30), turned(180), turned(180))  # FRONT; FRONT and SIDE; nothing, twice


def query_of(landmarks: Landmarks, index: torch.Tensor) -> Query:
    """A query whose keypoints are like the landmarks at `index`, or like none where that is negative."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(len(index), 64, generator=generator)
    own = torch.where(index[:, None] < 0, noise, landmarks.descriptors[index] + 0.02 * noise)
    world, count = make_world(), len(index)
    keypoints = Keypoints(torch.rand(count, 2), F.normalize(own, dim=1), torch.ones(count))
    return world.query(CAMERA, replace(world.features, keypoints=keypoints))


def test_rare_landmarks_outweigh_those_that_many_views_see() -> None:
    """All 40 in front, that two views see, and 20 of the 400 that only the second view sees."""
    landmarks = room()
    query = query_of(landmarks, torch.arange(FRONT + 20))
    best = CovisibleViews(landmarks, VIEWS).hypotheses(query)[0]
    assert torch.equal(best.pose(), VIEWS[1].cam_from_world)
    assert best.ok and not best.accepted and best.covariance is None and best.camera == CAMERA


def test_a_view_that_sees_many_landmarks_is_at_no_advantage() -> None:
    landmarks = room()
    scores = CovisibleViews(landmarks, VIEWS).scores(query_of(landmarks, torch.arange(FRONT)).keypoints)
    assert scores[0] > 1.5 * scores[1] > 0 and scores[2:].tolist() == [0, 0]


def test_only_views_with_a_common_landmark_are_returned_and_at_most_so_many() -> None:
    landmarks = room()
    query = query_of(landmarks, torch.arange(FRONT + 20))
    assert len(CovisibleViews(landmarks, VIEWS).hypotheses(query)) == 2
    assert len(CovisibleViews(landmarks, VIEWS, kept=1).hypotheses(query)) == 1
    assert CovisibleViews(landmarks, VIEWS).hypotheses(query_of(landmarks, torch.full((50,), -1))) == []


@pytest.mark.parametrize(
    "views, extractor, keypoints, ends",
    [(60, "xfeat-1", 1_024, True), (8, "xfeat-1", 1_024, False),
     (60, "disk-1", 1_024, False), (60, "xfeat-1", 500, False)],
)  # fmt: skip
def test_another_place_is_shown_only_where_that_was_measured(
    views: int, extractor: str, keypoints: int, ends: bool
) -> None:
    """Small maps, other extractors and few keypoints have low scores in their own place, too."""
    landmarks = replace(room(), extractor=extractor)
    source = CovisibleViews(landmarks, [turned(360 / views * number) for number in range(views)])
    query = query_of(landmarks, torch.full((keypoints,), -1))
    with pytest.raises(AnotherPlace) if ends else nullcontext():
        assert source.hypotheses(query) == []
    assert source.hypotheses(query_of(landmarks, torch.arange(keypoints) % (FRONT + SIDE)))


def test_a_query_with_hardly_a_common_landmark_may_show_another_place() -> None:
    landmarks = room()
    views = CovisibleViews(landmarks, VIEWS)
    one, some = (query_of(landmarks, torch.arange(count)) for count in (1, 20))
    assert 0 < views.scores(one.keypoints).max() < MIN_COMMON < views.scores(some.keypoints).max()
    assert views.best(one.keypoints, 3) and not views.hypotheses(one) and views.hypotheses(some)
