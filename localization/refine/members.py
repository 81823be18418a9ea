"""The built-in refiners and their options, without the modules that compute.

A command line is parsed with this module alone; the module of a member is imported when it is made.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

from gsplatloc.localization.alignment.options import (
    AdamOptions,
    DescentOptions,
    DirectOptions,
    Parametrization,
)
from gsplatloc.localization.pose.options import PnPOptions
from gsplatloc.localization.refine import REFINERS
from gsplatloc.utils.errors import GSplatLocError


@dataclass(frozen=True)
class FineOptions:
    """How the query is matched with a rendering."""

    rounds: int = 2  # renderings, each at the pose of the last one (paper: 5; a third gains nothing)
    max_side: int = 800  # pixels: the longer side of the rendering; larger queries are matched at this size
    match: Literal["track", "keypoints", "map"] = "track"  # corners, keypoints of both, or the feature map
    min_inliers: int = 40  # of the rendered matches; fewer are not enough to accept a pose
    sample_size: float = 1000.0  # effective sample size of all rendered matches, which share the map's errors


Exposure = Literal["none", "act", "affine"]


# All matches with a rendering err by 1 to 2 pixels: the narrow loss of landmarks would discard most of their
# information (0.61 instead of 0.50 cm on held-out views of RedKitchen).
_LOSS_SCALE_PX = 4.0
# RANSAC samples: of 20,000, the first 2,000 found all 77 right poses of held-out views of an office. Matches
# with landmarks need more: a cropped image was found with 8 of 8 seeds by 20,000, with 4 by 5,000.
_ITERATIONS = 5_000


@dataclass(frozen=True)
class GscprOptions:
    """How the query is matched with a rendering, and the pose solved."""

    rounds: int = 2  # renderings, each at the pose of the last one (paper: 1)
    matcher: str = "mutual"  # method that matches the query image with the rendering (paper: MASt3R)
    relative: bool = False  # relative pose from the matches, its scale from the rendered depth (GS-CPR_rel)
    # exposure compensation of the rendering: none, act (the map's network), affine (fitted per query)
    exposure: Exposure = "none"
    max_side: int = 800  # pixels: the longer side of the rendering; larger queries are matched at this size
    # limits of RANSAC and PnP
    pnp: PnPOptions = field(default_factory=lambda: PnPOptions(_LOSS_SCALE_PX, _ITERATIONS))

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise GSplatLocError(f"expected at least one round, found {self.rounds}: see --rounds")


@dataclass(frozen=True)
class GslocOptions(DescentOptions):
    """How rendering and query image are aligned: the paper's settings, except where stated."""

    scale: float = 0.5  # of the rendering, relative to the query image (paper: 1; ablation: 1/2, 1/4)
    # unknowns of the pose: se3 (tangent vector) or quaternion (quaternion and translation, for comparison)
    parametrization: Parametrization = "se3"
    blur: float = 0.06  # first Gaussian sigma of the second search, relative to the image's longer side
    min_psnr: float = 25.0  # PSNR in dB below which the search is repeated on blurred images
    enough_correlation: float = 0.75  # between query image and rendering: no second search, whatever the PSNR

    def __post_init__(self) -> None:
        if not 0 < self.scale <= 1 or self.iterations < 0 or not 0 < self.last_lr <= self.lr < math.inf:
            raise GSplatLocError(
                "expected a scale in (0, 1], at least 0 steps and falling learning rates, found"
                f" {self.scale:g}, {self.iterations}, {self.lr:g} to {self.last_lr:g}: correct GslocOptions"
            )
        if not 0 <= self.blur < math.inf:
            raise GSplatLocError(f"expected a blur of at least 0, found {self.blur:g}: correct GslocOptions")
        if self.parametrization not in ("se3", "quaternion"):
            raise GSplatLocError(f"expected se3 or quaternion, found {self.parametrization!r}")


@dataclass(frozen=True)
class LmOptions(DirectOptions):
    """Options of the refinement `lm`."""


@dataclass(frozen=True)
class WarpOptions(DirectOptions):
    """Options of the refinement `warp`. Defaults are for indoor scenes in metres."""

    feature_weight: float = 0.1  # of the descriptor term relative to the photometric one; 0 = colour only
    patches: bool = False  # KLT patches are added as reprojection residuals after photometric convergence
    lr: float = AdamOptions.lr  # first Adam step, radians of view in every direction (paper: 1e-3 m and rad)
    iterations: int = AdamOptions.iterations  # maximum Adam steps of a level (paper: 250, outdoors 350)

    def __post_init__(self) -> None:
        if not (0 < self.lr < math.inf) or self.iterations < 0:
            raise GSplatLocError(
                f"expected a positive learning rate and at least 0 steps, found {self.lr:g} and"
                f" {self.iterations}: see --warp_lr and --warp_iters"
            )


REFINERS.declare("fine", "fine.make", FineOptions, "GSplatLoc's fine rounds: match with renderings, solve")
REFINERS.declare(
    "gscpr", "gscpr.make", GscprOptions, "GS-CPR: match with a rendering, lift by its depth, PnP"
)
REFINERS.declare("gsloc", "gsloc.make", GslocOptions, "GSLoc: photometric descent, a rendering at every step")
REFINERS.declare("lm", "lm.make", LmOptions, "direct alignment of a rendering, Levenberg-Marquardt on SE(3)")
REFINERS.declare(
    "warp", "warp.make", WarpOptions, "GSplatLoc's refinement: warp one rendering, Adam on SE(3)"
)
