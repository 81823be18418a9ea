"""The built-in initial poses and their options, without the modules that compute.

A command line is parsed with this module alone; the module of a member is imported when it is made.
"""

from dataclasses import dataclass, field

from gsplatloc.localization.initial import INITIAL_POSES
from gsplatloc.localization.pose.options import PnPOptions
from gsplatloc.utils.errors import GSplatLocError

GIVEN = "given"  # the initial pose of gsplatloc refine


@dataclass(frozen=True)
class LandmarkMatchingOptions:
    """How keypoints and landmarks are matched."""

    first_keypoints: int = 512  # number of keypoints in the first matching pass, strongest first
    first_landmarks: int = 8_192  # number of landmarks in it, from the clusters with the highest scores
    pnp: PnPOptions = field(default_factory=PnPOptions)  # limits of RANSAC and PnP


@dataclass(frozen=True)
class GaussianMatchingOptions:
    """How keypoints and Gaussians are matched."""

    keypoints: int = 1000  # of the query, the strongest (paper: 1,000)
    min_opacity: float = 0.1  # least opacity of matched Gaussians: fainter ones are no surface
    pnp: PnPOptions = field(default_factory=PnPOptions)  # limits of RANSAC and PnP (paper: 20,000 samples)


@dataclass(frozen=True)
class ViewMatchingOptions:
    """How many views are retrieved, and how the pose is found."""

    views: int = 20  # number of mapping views: those with the most landmarks in common with the query
    pnp: PnPOptions = field(default_factory=PnPOptions)  # limits of RANSAC and PnP

    def __post_init__(self) -> None:
        if self.views < 1:
            raise GSplatLocError(f"expected at least one view, found {self.views}: see --views.views")


@dataclass(frozen=True)
class GSVisLocOptions:
    """The landmarks that are predicted from a splat, and how keypoints are matched with them."""

    weights: str | None = None  # file of gsplatloc train-matcher; unset = the file of this package
    views: int = 160  # views of the map, at most, from which Gaussians are described
    tried: int = 400  # number of visible Gaussians that are described in each view
    kept: int = 400  # number of these that are kept, those most like keypoints; fewer save time, lose poses
    min_opacity: float = 0.5  # least opacity of these Gaussians (paper: 0.9)
    keypoints: int = 1000  # of the query, the strongest
    # Limits of RANSAC and PnP. Of 100,000 samples of three matches one is right if 2 % of the matches are.
    pnp: PnPOptions = field(default_factory=lambda: PnPOptions(max_iterations=100_000))

    def __post_init__(self) -> None:
        if min(self.views, self.tried, self.kept, self.keypoints) < 1:
            raise GSplatLocError(
                "expected at least one view, Gaussian and keypoint, found"
                f" {self.views}, {self.tried}, {self.kept} and {self.keypoints}: see --gsvisloc.views"
            )


@dataclass(frozen=True)
class RetrievalOptions:
    """The views of the index, and how many of those retrieved are tried."""

    views: int = 0  # number of virtual views, which are rendered beside the mapping views
    candidates: int = 10  # number of views nearest by pooled descriptors, compared by a small rendering
    kept: int = 3  # number of candidates that are refined, the best by that comparison

    def __post_init__(self) -> None:
        if min(self.candidates, self.kept) < 1 or self.views < 0:
            raise GSplatLocError(
                "expected at least one candidate and one kept view, and no negative number of rendered views,"
                f" found {self.candidates}, {self.kept} and {self.views}: see --retrieval.candidates"
            )


INITIAL_POSES.declare(
    "landmarks", "landmarks.make", LandmarkMatchingOptions, "matches with the map's landmarks, RANSAC"
)
INITIAL_POSES.declare(
    "gaussians",
    "gaussians.make",
    GaussianMatchingOptions,
    "matches with the descriptors of all Gaussians, RANSAC (GSplatLoc)",
)
INITIAL_POSES.declare(
    "gsvisloc",
    "gsvisloc.make",
    GSVisLocOptions,
    "matches with descriptors that a network predicts from the Gaussians (after GSVisLoc)",
)
INITIAL_POSES.declare(
    "views",
    "views.make",
    ViewMatchingOptions,
    "matches with the landmarks of the most similar views, RANSAC (hloc)",
)
INITIAL_POSES.declare("retrieval", "retrieval.make", RetrievalOptions, "most similar views of the map")
INITIAL_POSES.declare(GIVEN, "given.make", help="the pose that another estimator gave")
