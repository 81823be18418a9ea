"""Initial poses: the first estimates of a query's pose, before any refinement.

An initial pose is one file of this folder that members.py declares with its options, or a plugin that
registers itself in `INITIAL_POSES`; its name is then a value of `--initial`, and the fields of its options
are flags, `--NAME.FIELD`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from gsplatloc.utils.registry import Registry

if TYPE_CHECKING:  # for annotations only: a command line is parsed without torch
    from gsplatloc.localization.queries import Query
    from gsplatloc.localization.result import PoseEstimate

DEFAULT_INITIAL = "landmarks"


class InitialPose(Protocol):
    """Proposes poses of a query."""

    name: str  # the registered name
    # True if its landmarks are predicted: the fallback then asks those of the map. Without the attribute it
    # is False.
    predicts: bool = False
    # Where its poses have no matches: the initial pose whose matches show whether a camera given as exact is
    # right. Without the attribute, or where it is None, its own matches show it.
    camera_evidence: InitialPose | None = None

    def hypotheses(self, query: Query) -> Iterable[PoseEstimate]:
        """At least one estimate, the most promising first.

        `accepted=False` marks a pose that is not supported by matches, such as that of a similar view: it
        counts only if a refinement accepts it. If `query.focal_known` is False, the camera of an estimate has
        the estimated focal length.
        """
        ...


# Factories take (options, context: StageContext), as those of refiners do.
INITIAL_POSES = Registry[InitialPose]("initial pose", __name__)
