"""The initial pose of another estimator, which `gsplatloc refine` refines."""

import sys

from gsplatloc.localization.initial import InitialPose
from gsplatloc.localization.initial.landmarks import LandmarkPose, check_extractor
from gsplatloc.localization.landmarks.file import FILE_NAME, load_landmarks
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine import StageContext
from gsplatloc.localization.result import PoseEstimate, Status
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.registry import NoOptions


class GivenPose(InitialPose):
    """`InitialPose` of `Query.given_pose`. The other estimator's error is unknown: no covariance.

    Matches with `landmarks`, if the map has any, show whether the camera is that of the query.
    """

    name = "given"

    def __init__(self, landmarks: LandmarkPose | None = None) -> None:
        self.camera_evidence = landmarks

    def hypotheses(self, query: Query) -> list[PoseEstimate]:
        if query.given_pose is None:
            return [PoseEstimate(Status.NOT_GIVEN, query.camera)]
        if not query.has_camera:
            raise GSplatLocError(
                "expected the focal length of an image whose pose is refined, found none: give --focal"
            )
        return [PoseEstimate(Status.OK, query.camera, query.given_pose.double().cpu())]


def make(options: NoOptions, context: StageContext) -> InitialPose:
    splat_map = context.splat_map
    if splat_map.folder is None or not (splat_map.folder / FILE_NAME).is_file():
        return GivenPose()
    try:
        landmarks = load_landmarks(splat_map.file(FILE_NAME))
        check_extractor(landmarks, context.extractor)
    except GSplatLocError as error:  # poses can be refined without them
        log(f"the cameras of given poses are not checked: {error}", stream=sys.stderr)
        return GivenPose()
    return GivenPose(LandmarkPose(landmarks.to(splat_map.device)))
