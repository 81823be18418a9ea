"""The initial pose of another estimator, which `gsplatloc refine` refines."""

from gsplatloc.localization.initial import InitialPose
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine import StageContext
from gsplatloc.localization.result import PoseEstimate, Status
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.registry import NoOptions


class GivenPose:
    """`InitialPose` of `Query.given_pose`. The other estimator's error is unknown: no covariance."""

    name = "given"

    def hypotheses(self, query: Query) -> list[PoseEstimate]:
        if query.given_pose is None:
            return [PoseEstimate(Status.NOT_GIVEN, query.camera)]
        if not query.has_camera:
            raise GSplatLocError(
                "expected the focal length of an image whose pose is refined, found none: give --focal"
            )
        return [PoseEstimate(Status.OK, query.camera, query.given_pose.double().cpu())]


def make(options: NoOptions, context: StageContext) -> InitialPose:
    return GivenPose()
