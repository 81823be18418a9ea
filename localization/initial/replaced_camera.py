"""Another camera where the matches of a query contradict the one that was given as exact.

Intrinsics of another size of the image, in other units, of another lens, or of a photo before it was cropped
or enlarged give a pose that is wrong by metres and has hundreds of inliers.
"""

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain

from gsplatloc.localization.initial import InitialPose
from gsplatloc.localization.pose.camera.given import differs
from gsplatloc.localization.pose.pnp import contradicts_camera, with_doubt_of_camera
from gsplatloc.localization.queries import Query
from gsplatloc.localization.result import PoseEstimate
from gsplatloc.scene.cameras import Camera

# Near a pose of a very wrong camera, no other camera fits better, but fewer matches agree: at most 64 % with
# 0.23 to 1.6 times the focal length (18 held-out views of RedKitchen and an office). In views far from the
# mapping views as few agree with the right camera, but no other one has many more inliers. Fewer than
# 50 inliers hardly contradict a camera: then one is looked for if 20 % of the matches disagree.
_AGREEING, _OF_FEW = 0.66, 0.8
_FEW = 50
_MORE_INLIERS = 1.5


def hypotheses_of(initial: InitialPose, query: Query) -> tuple[Query, Iterable[PoseEstimate], bool]:
    """The query with hypotheses of its pose, and whether another camera than the given one was estimated.

    A camera that is kept is in doubt where the matches hardly determine it: the covariance of the first
    hypothesis includes that. Poses of another estimator are given without matches: those with the map's
    landmarks show which camera it is.
    """
    evidence = getattr(initial, "camera_evidence", None)
    if evidence is not None:
        return _without_matches(initial, evidence, query)
    hypotheses = iter(initial.hypotheses(query))
    given = next(hypotheses, None)
    if given is None:
        return query, (), False
    found = _another_camera(initial, query, given)
    if found is None:
        first = with_doubt_of_camera(given) if query.focal_known else given
        return query, chain([first], hypotheses), False
    return query.with_free_camera(), found, True


def _without_matches(
    initial: InitialPose, evidence: InitialPose, query: Query
) -> tuple[Query, Iterable[PoseEstimate], bool]:
    """For a pose given without matches: `evidence` finds those that confirm or contradict its camera."""
    given = next(iter(initial.hypotheses(query)))
    if not (given.ok and query.focal_known):
        return query, (given,), False
    matched = next(iter(evidence.hypotheses(query)))
    found = _another_camera(evidence, query, matched)
    if found is None:
        doubt = with_doubt_of_camera(matched).camera_covariance
        return query, (replace(given, camera_covariance=doubt),), False
    other = next(iter(found))
    given = replace(
        given,
        camera=other.camera,
        distortion=other.distortion,
        camera_covariance=other.camera_covariance,
    )
    return query.with_free_camera(), (given,), True


def _another_camera(initial: InitialPose, query: Query, given: PoseEstimate) -> Iterable[PoseEstimate] | None:
    """Hypotheses with the camera that fits better than the given one; None if that is kept."""
    if not query.focal_known or not given.ok or given.matches is None:
        return None
    contradicted = contradicts_camera(given)
    agreeing = _OF_FEW if given.inliers < _FEW else _AGREEING
    if not contradicted and given.inliers >= agreeing * len(given.matches):
        return None
    others = iter(initial.hypotheses(query.with_free_camera()))
    found = next(others, None)
    least = given.inliers * (1.0 if contradicted else _MORE_INLIERS)
    if found is None or not found.ok or found.inliers < least or not _is_another(found.camera, given.camera):
        return None
    return chain([found], others)


def _is_another(camera: Camera, given: Camera) -> bool:
    """Whether a camera differs from the given one, and its principal point lies in the image.

    Where the matches hardly determine a camera, wrong ones may fit with a principal point far beside it.
    """
    centered = 0 <= camera.cx <= camera.width and 0 <= camera.cy <= camera.height
    return centered and differs(camera, given)
