"""Refiners: methods that improve the pose of a query by comparing it with the rendered map.

A refiner is one file of this folder that members.py declares with its options, or a plugin that registers
itself in `REFINERS`; its name is then a stage of `Localizer` and of `--stages`, and the fields of its options
are flags, `--NAME.FIELD`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gsplatloc.localization.features import Extractor
from gsplatloc.utils.registry import Registry

if TYPE_CHECKING:  # for annotations only: a command line is parsed without torch
    from gsplatloc.localization.queries import Query
    from gsplatloc.localization.result import PoseEstimate
    from gsplatloc.scene.splat_map import SplatMap


@dataclass(frozen=True)
class StageContext:
    """The map and the extractor of its descriptors, for the factories of stages."""

    splat_map: SplatMap
    extractor: Extractor


class Refiner(Protocol):
    """Refines an estimate.

    The contract (tests/localization/refine/test_contract.py runs it on every registered refiner):
    - A failed estimate is returned as it is, with `accepted=False`.
    - A refined pose has `accepted=True`; its inliers, matches, covariance and information are its own. A
      refiner that finds no matches decides the inliers of the initial ones anew (`pose.estimates.moved`).
    - The covariance is calibrated (`pose.covariance.jackknife`).
    - A refined pose that is not supported by the image is rejected: the initial estimate is returned with
      `accepted=False`. An empty map and an image of another place are rejected.
    - An object that the map lacks is ignored. Another exposure of the query is compensated, or its error is
      covered by the covariance (gsloc).
    - The initial covariance is either used as a prior, so that a certain pose is kept (lm, warp), or not used
      at all (fine, gscpr, gsloc).
    - The same inputs give the same bits.
    """

    name: str  # the registered name
    # True if its acceptance test compares the query with the map: an accepted pose then needs no further
    # verification. Without the attribute it is False.
    verifies: bool

    def refine(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate: ...


# Factories take (options, context: StageContext). Other stages and summaries have the reserved names.
REFINERS = Registry[Refiner]("refinement", __name__, reserved=("initial", "prior", "fallback", "final"))
