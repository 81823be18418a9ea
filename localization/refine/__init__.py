"""Refiners: they improve the pose of a query against the rendered map.

A refiner is one file of this folder (or a plugin) that registers itself in `REFINERS`; its name is then a
stage of `Localizer` and of `--stages`, and the fields of its options are flags, `--NAME.FIELD`.
"""

from dataclasses import dataclass
from typing import Protocol

from gsplatloc.localization.features import Extractor
from gsplatloc.localization.queries import Query
from gsplatloc.localization.result import PoseEstimate
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils.registry import Registry


@dataclass(frozen=True)
class StageContext:
    """What a stage may use beside the query: the map, and the extractor that made its descriptors."""

    splat_map: SplatMap
    extractor: Extractor


class Refiner(Protocol):
    """Improves an estimate.

    The contract (tests/localization/refine/test_contract.py): a failed estimate is returned as it is. A
    refined pose comes with `accepted=True` and with its own inliers, matches and covariance. Where the
    evidence does not support a refined pose, the initial estimate is returned with `accepted=False`.
    """

    name: str

    def refine(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate: ...


# Factories take (options, context: StageContext).
REFINERS = Registry[Refiner]("refinement", __name__)
