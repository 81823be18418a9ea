"""The cascade where the camera is not known exactly: which camera and which pose are kept."""

from dataclasses import replace

import pytest
import torch

from gsplatloc.localization import fallback as cascade
from gsplatloc.localization.evaluation import pose_error
from gsplatloc.localization.fallback import Fallback
from gsplatloc.localization.queries import EXIF_FOCAL_SIGMA, Query
from gsplatloc.localization.result import PoseEstimate, Status
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils import se3
from tests.localization.rendered_room import CAMERA, Moves, Room, Views, far, with_matches


def test_an_estimated_focal_length_is_enough_for_similar_views(room: Room) -> None:
    """A found pose comes with its camera: retrieval, which needs a focal length, may use it."""

    class Careful(Views):
        def hypotheses(self, query: Query) -> list[PoseEstimate]:
            assert query.focal_known and query.camera == CAMERA
            return super().hypotheses(query)

    fallback = Fallback(room.splat_map, [Moves(None, room.truth)], [lambda: Careful(far(room))])
    unknown = replace(room.query, focal_known=False, camera=replace(CAMERA, fx=1.0, fy=1.0))
    found = PoseEstimate(Status.OK, CAMERA, far(room))
    best, score = fallback.search(unknown, unknown, found, 0.0)
    assert torch.equal(best.pose(), room.truth) and score is not None and score > 0.9


class Matches:
    """A refiner that finds matches with the map, and moves nothing."""

    name, verifies = "matches", False

    def __init__(self, truth: torch.Tensor) -> None:
        self.truth = truth

    def refine(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate:
        return replace(with_matches(initial, self.truth), accepted=True)


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("sigma", [0.0, EXIF_FOCAL_SIGMA])
@pytest.mark.parametrize("first", [True, False])
def test_a_probable_camera_is_tested_by_the_matches_of_the_search(
    room: Room, factor: float, sigma: float, first: bool
) -> None:
    """A photo that was enlarged has the size of the map's photos, and another focal length."""
    prior = replace(CAMERA, fx=factor * CAMERA.fx, fy=factor * CAMERA.fy)
    query = replace(room.query, focal_known=False, focal_sigma=sigma, camera=prior)
    fallback = Fallback(room.splat_map, [Matches(room.truth)], [] if first else [lambda: Views(far(room))])
    status = Status.OK if first else Status.NO_CONSENSUS
    found = PoseEstimate(status, prior, far(room) if first else None)
    best, score = fallback.search(query, query, found, 0.0 if first else None)
    assert best.camera.fx == pytest.approx(CAMERA.fx, rel=0.02)
    error = pose_error(best.pose(), room.truth)
    assert error.translation_m < 0.02 and score is not None and score > 0.8
    assert best.camera_covariance is not None and best.expected_translation_m is not None
    assert error.translation_m < 3 * best.expected_translation_m


class Refits(Moves):
    """Moves, with matches of the true pose: with `count` of them when the camera is first estimated."""

    def __init__(self, truth: torch.Tensor, count: int, *poses: torch.Tensor | None) -> None:
        super().__init__(*poses)
        self.truth, self.count = truth, count

    def refine(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate:
        found = super().refine(query, splat_map, initial)
        return replace(with_matches(found, self.truth, self.count), accepted=found.accepted)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("refit", ["no camera", "rejected", "worse"])
def test_a_good_pose_is_kept_unverified_where_its_camera_is_not_confirmed(
    room: Room, refit: str, first: bool
) -> None:
    query = replace(room.query, focal_known=False, focal_sigma=EXIF_FOCAL_SIGMA)
    then = {"no camera": room.truth, "rejected": None, "worse": far(room)}[refit]
    refiner = Refits(room.truth, 2 if refit == "no camera" else 200, room.truth, then)
    fallback = Fallback(room.splat_map, [refiner], [] if first else [lambda: Views(far(room))])
    status = Status.OK if first else Status.NO_CONSENSUS
    found = PoseEstimate(status, CAMERA, far(room) if first else None)
    best, score = fallback.search(query, query, found, 0.05 if first else None)
    assert torch.equal(best.pose(), room.truth) and best.camera == CAMERA
    assert score is not None and 0.2 < score < cascade.MIN_SCORE


def test_of_two_cameras_the_one_estimated_from_verified_matches_is_kept(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A camera that is estimated once more, with a pose that is not verified, replaces none."""
    near = se3.se3_exp(torch.tensor([0.01, 0, 0, 0, 0, 0], dtype=torch.float64)) @ room.truth
    scores = {far(room)[0, 3].item(): 0.1, room.truth[0, 3].item(): 0.9, near[0, 3].item(): 0.2}
    monkeypatch.setattr(cascade, "verification_score", lambda query, splats, pose: scores[pose[0, 3].item()])
    prior = replace(CAMERA, fx=0.9 * CAMERA.fx, fy=0.9 * CAMERA.fy)
    query = replace(room.query, focal_known=False, focal_sigma=EXIF_FOCAL_SIGMA, camera=prior)
    refiner = Refits(room.truth, 200, far(room), room.truth, near)
    best, score = Fallback(room.splat_map, [refiner]).search(
        query, query, PoseEstimate(Status.OK, prior, far(room)), 0.0
    )
    assert torch.equal(best.pose(), room.truth) and score == 0.9
    assert best.camera.fx == pytest.approx(CAMERA.fx, rel=0.02) and refiner.calls == 3
