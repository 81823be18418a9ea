"""The cascade: when further hypotheses are tried, which of them wins, and the status of the result."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gsplatloc.localization import fallback as cascade
from gsplatloc.localization.fallback import FALLBACK, Fallback
from gsplatloc.localization.initial.given import GivenPose
from gsplatloc.localization.landmarks.covisible import AnotherPlace
from gsplatloc.localization.landmarks.noise import MapNoise
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.pose.distortion import undistort_image
from gsplatloc.localization.queries import EXIF_FOCAL_SIGMA, Query
from gsplatloc.localization.result import Localization, PoseEstimate, Status
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from tests.localization.rendered_room import CAMERA, Moves, Room, Views, far, with_matches
from tests.localization.world import FakeExtractor, make_world


def localizer(room: Room, first: Moves, second: Moves | None, *views: torch.Tensor) -> Localizer:
    fallback = None if second is None else Fallback(room.splat_map, [second], [lambda: Views(*views)])
    extractor = FakeExtractor(make_world().features)
    return Localizer(GivenPose(), extractor, room.splat_map, [first], None, True, fallback)


def test_a_pose_that_a_comparison_with_the_map_accepted_costs_nothing_more(room: Room) -> None:
    second = Moves(room.truth)
    found = localizer(room, Moves(room.truth, verifies=True), second).localize(
        room.query.image, CAMERA, room.truth
    )
    assert found.status is Status.OK and found.score is None and second.calls == 0
    assert list(found.stages) == ["initial", "moves"]


def test_a_rejected_pose_is_refined_by_the_fallback(room: Room) -> None:
    found = localizer(room, Moves(None), Moves(room.truth)).localize(room.query.image, CAMERA, far(room))
    assert found.status is Status.OK and found.score is not None and found.score > 0.9
    assert torch.equal(found.stages[FALLBACK].pose(), room.truth)


class NeedsRoom:
    """A refiner that moves a pose only if its prior allows for 5 cm per axis."""

    name, verifies = "narrow", True

    def __init__(self, pose: torch.Tensor) -> None:
        self.pose, self.calls = pose, 0

    def refine(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate:
        self.calls += 1
        if initial.covariance is None or initial.covariance[0, 0] < 0.05**2:
            return replace(initial, accepted=False)
        return replace(initial, cam_from_world=self.pose, accepted=True)


class Certain(GivenPose):
    """The given pose, stated to 1 cm."""

    def hypotheses(self, query: Query) -> list[PoseEstimate]:
        covariance = 1e-4 * torch.eye(6, dtype=torch.float64)
        return [replace(found, covariance=covariance) for found in super().hypotheses(query)]


def with_noise(room: Room, refiner: NeedsRoom, second: Moves, noise_m: float) -> Localization:
    fallback = Fallback(room.splat_map, [second], [lambda: Views()])
    extractor, noise = FakeExtractor(make_world().features), MapNoise((noise_m, 0.0))
    return Localizer(Certain(), extractor, room.splat_map, [refiner], None, True, fallback, noise).localize(
        room.query.image, CAMERA, far(room)
    )


def test_a_rejected_refinement_is_repeated_with_the_error_of_the_map(room: Room) -> None:
    refiner, second = NeedsRoom(room.truth), Moves(None)
    found = with_noise(room, refiner, second, 0.1)
    assert found.status is Status.OK and torch.equal(found.final.pose(), room.truth)
    assert list(found.stages) == ["initial", "narrow"] and found.stages["narrow"].accepted
    assert refiner.calls == 2 and second.calls == 0


def test_the_repeated_refinement_counts_only_where_it_looks_like_the_image(room: Room) -> None:
    wrong = se3.se3_exp(torch.tensor([0, 0, 0, 0, 0.5, 0], dtype=torch.float64)) @ room.truth
    found = with_noise(room, NeedsRoom(wrong), Moves(None), 0.1)
    assert found.status is not Status.OK and not found.stages["narrow"].accepted
    assert torch.equal(found.stages["narrow"].pose(), far(room))


def test_a_map_without_noise_is_refined_once(room: Room) -> None:
    refiner = NeedsRoom(room.truth)
    assert with_noise(room, refiner, Moves(None), 0.0).status is not Status.OK and refiner.calls == 1


def test_the_search_is_not_held_by_the_matches_of_a_wrong_pose(room: Room) -> None:
    class Holds(Moves):
        def refine(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate:
            return super().refine(query, splat_map, initial) if initial.matches is None else initial

    doubtful = with_matches(PoseEstimate(Status.OK, CAMERA, far(room)), far(room))
    best, score = Fallback(room.splat_map, [Holds(room.truth)]).search(room.query, room.query, doubtful, 0.3)
    assert torch.equal(best.pose(), room.truth) and score is not None and score > 0.9


def test_similar_views_are_tried_until_one_is_verified(room: Room) -> None:
    wrong, second = far(room), Moves(None, far(room), room.truth)
    views = (se3.inverse(wrong), wrong, wrong, room.truth)  # the same view again is not tried again
    found = localizer(room, Moves(None), second, *views).localize(room.query.image, CAMERA, wrong)
    assert second.calls == 3
    assert found.status is Status.OK and torch.equal(found.final.pose(), room.truth)


def test_without_a_verified_pose_the_first_one_is_returned_as_unverified(room: Room) -> None:
    wrong = far(room)
    found = localizer(room, Moves(None), Moves(wrong), wrong).localize(room.query.image, CAMERA, wrong)
    assert found.status is Status.UNVERIFIED and found.final.ok
    assert found.score is not None and found.score < 0.25
    torch.testing.assert_close(found.final.pose(), wrong)


def test_a_failed_query_is_found_by_its_similar_views(room: Room) -> None:
    found = localizer(room, Moves(None), Moves(room.truth), far(room)).localize(room.query.image, CAMERA)
    assert found.stages["initial"].status is Status.NOT_GIVEN
    assert found.status is Status.OK and torch.equal(found.final.pose(), room.truth)


def test_a_failed_query_without_a_verified_view_has_failed(room: Room) -> None:
    found = localizer(room, Moves(None), Moves(far(room)), far(room)).localize(room.query.image, CAMERA)
    assert found.status is Status.NOT_GIVEN and found.final.cam_from_world is None


def test_of_similar_views_that_are_not_verified_the_best_is_returned_as_unverified(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores of 0.1 and more are right in most cases: a pose with a warning, instead of none."""
    poses = [room.truth, far(room), se3.inverse(far(room))]
    scores = dict(zip([pose[0, 3].item() for pose in poses], (0.15, 0.2, 0.12), strict=True))
    monkeypatch.setattr(cascade, "verification_score", lambda query, splats, pose: scores[pose[0, 3].item()])
    found = localizer(room, Moves(None), Moves(*poses), *poses).localize(room.query.image, CAMERA)
    assert found.status is Status.UNVERIFIED and found.score == 0.2
    assert torch.equal(found.final.pose(), far(room))


@pytest.mark.parametrize("right", [True, False])
def test_without_a_fallback_the_pose_is_verified_all_the_same(room: Room, right: bool) -> None:
    pose = room.truth if right else far(room)
    found = localizer(room, Moves(pose), None).localize(room.query.image, CAMERA, pose)
    assert found.status is (Status.OK if right else Status.UNVERIFIED)
    assert list(found.stages) == ["initial", "moves"]


def test_the_time_of_the_fallback_is_part_of_the_total(room: Room) -> None:
    found = localizer(room, Moves(None), Moves(room.truth)).localize(
        np.ascontiguousarray(room.query.image), CAMERA, far(room)
    )
    assert found.total_ms > found.stages[FALLBACK].elapsed_ms > 0


def test_verification_without_fallback_counts_into_the_total(room: Room) -> None:
    found = localizer(room, Moves(room.truth), None).localize(room.query.image, CAMERA, room.truth)
    stages = sum(stage.elapsed_ms for stage in found.stages.values())
    assert found.total_ms == found.features_ms + stages + found.search_ms > stages


def test_distortion_of_an_unknown_camera_is_kept(room: Room) -> None:
    fallback = Fallback(room.splat_map, [Moves(None, room.truth)], [lambda: Views(far(room))])
    found = PoseEstimate(Status.OK, CAMERA, far(room), distortion=0.1)
    best, _ = fallback.search(room.query, room.query, found, 0.0)
    assert best.distortion == 0.1 and best.accepted


def test_an_initial_pose_without_a_hypothesis_is_one_line(room: Room) -> None:
    silent = Localizer(Views(), FakeExtractor(make_world().features), room.splat_map, [Moves(room.truth)])
    with pytest.raises(GSplatLocError, match="expected at least one hypothesis of the initial pose views"):
        silent.localize(room.query.image, CAMERA)


def test_a_query_that_has_nothing_in_common_with_the_map_is_not_searched_further(room: Room) -> None:
    asked = []

    def similar() -> Views:
        asked.append(True)
        return Views(far(room))

    found = PoseEstimate(Status.NO_CONSENSUS, CAMERA)
    refiner = Moves(room.truth)

    class Elsewhere(Views):
        def hypotheses(self, query: Query) -> list[PoseEstimate]:
            raise AnotherPlace

    none = Fallback(room.splat_map, [refiner], [lambda: Elsewhere(), similar]).search(
        room.query, room.query, found, None
    )
    assert none == (found, None) and not asked and refiner.calls == 0
    refined, _ = Fallback(room.splat_map, [refiner], [lambda: Views(), similar]).search(
        room.query, room.query, found, None
    )
    assert torch.equal(refined.pose(), room.truth)
    assert asked  # where the first source has nothing to offer


@pytest.mark.parametrize("refined, better", [(0.08, False), (0.12, True)])
def test_a_refined_pose_needs_a_score_that_wrong_ones_do_not_have(
    room: Room, monkeypatch: pytest.MonkeyPatch, refined: float, better: bool
) -> None:
    monkeypatch.setattr(cascade, "verification_score", lambda query, splats, pose: refined)
    found = PoseEstimate(Status.OK, CAMERA, far(room))
    best, score = Fallback(room.splat_map, [Moves(room.truth)]).search(room.query, room.query, found, 0.02)
    assert torch.equal(best.pose(), room.truth if better else far(room))
    assert score == (refined if better else 0.02)


@pytest.mark.parametrize("distortion", [0.0, 0.1])
def test_a_hypothesis_is_refined_with_the_camera_that_was_estimated_with_it(
    room: Room, distortion: float
) -> None:
    """As after `gsvisloc`: the map's landmarks give a focal length and distortion of their own."""
    prior = replace(CAMERA, fx=0.5 * CAMERA.fx, fy=0.5 * CAMERA.fy)
    seen = []

    class Fitted(Views):
        def hypotheses(self, query: Query) -> list[PoseEstimate]:
            return [PoseEstimate(Status.OK, CAMERA, far(room), distortion=distortion)]

    class Looks(Moves):
        def refine(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate:
            seen.append(query)
            return super().refine(query, splat_map, initial)

    query = replace(room.query, focal_known=False, focal_sigma=EXIF_FOCAL_SIGMA, camera=prior)
    extractor = FakeExtractor(make_world().features)
    fallback = Fallback(room.splat_map, [Looks(room.truth)], [Fitted], None, extractor)
    best, _ = fallback.search(query, query, PoseEstimate(Status.NO_CONSENSUS, prior), None)
    assert [one.camera for one in seen] == [CAMERA] and best.camera == CAMERA
    assert best.distortion == distortion
    assert np.array_equal(seen[0].image, undistort_image(query.image, CAMERA, distortion))


def test_the_error_of_a_confirmed_camera_is_part_of_a_hypothesis_covariance(room: Room) -> None:
    class Certain(Views):
        def hypotheses(self, query: Query) -> list[PoseEstimate]:
            covariance = 1e-4 * torch.eye(6, dtype=torch.float64)
            return [replace(found, covariance=covariance) for found in super().hypotheses(query)]

    camera_covariance = 1e-2 * torch.eye(6, dtype=torch.float64)
    found = PoseEstimate(Status.OK, CAMERA, far(room), camera_covariance=camera_covariance)
    fallback = Fallback(room.splat_map, [Moves(None, room.truth)], [lambda: Certain(far(room))])
    best, _ = fallback.search(room.query, room.query, found, 0.0)
    known = best.covariance_of_known_camera
    assert known is not None
    torch.testing.assert_close(known, 1e-4 * torch.eye(6, dtype=torch.float64))


def test_the_stated_error_of_a_searched_pose_is_inflated(room: Room) -> None:
    """Its few matches are on one side of the image: 1.5 times, found on held-out views."""
    covariance = torch.eye(6, dtype=torch.float64)

    class Stated(Moves):
        def refine(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate:
            return replace(super().refine(query, splat_map, initial), covariance=covariance)

    found = localizer(room, Moves(None), Stated(room.truth)).localize(room.query.image, CAMERA, far(room))
    torch.testing.assert_close(found.stages[FALLBACK].covariance, 2.25 * covariance)


def test_the_noise_of_the_mapping_poses_is_part_of_the_stated_error(room: Room) -> None:
    """It is added once, to every stage, and moves no pose."""

    class Stated(Moves):
        def refine(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate:
            return replace(super().refine(query, splat_map, initial), covariance=torch.eye(6).double())

    chain = localizer(room, Stated(room.truth, verifies=True), None)
    chain.noise = MapNoise((0.1, 0.01))
    final = chain.localize(room.query.image, CAMERA, room.truth).final
    assert final.covariance is not None and torch.equal(final.pose(), room.truth)
    expected = torch.tensor([1.01] * 3 + [1.0001] * 3, dtype=torch.float64)
    torch.testing.assert_close(final.covariance, torch.diag(expected))
