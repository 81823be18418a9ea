"""The tables that can be made again. A further table is one more entry of `TABLES`."""

from dataclasses import dataclass
from typing import Literal

from gsplatloc.datasets import upstream
from gsplatloc.reproduction import data_sets, published
from gsplatloc.reproduction.data_sets import DataSet
from gsplatloc.reproduction.methods import METHODS, MethodName
from gsplatloc.reproduction.published import Published
from gsplatloc.utils.errors import require_known

# localize: images without poses; refine: poses of other estimators (--poses); track: RGB-D sequences.
Evaluation = Literal["localize", "refine", "track"]


@dataclass(frozen=True)
class Table:
    """One table: scenes, data, what is evaluated, and published figures beside ours."""

    title: str
    data: DataSet
    scenes: tuple[str, ...]
    published: tuple[Published, ...]
    split: str  # which images the published figures are of
    evaluation: Evaluation = "localize"
    outdoors: bool = False

    @property
    def methods(self) -> tuple[MethodName, ...]:
        """Those that can be evaluated: a sparse pipeline refines no poses, and tracks no sequence."""
        return METHODS if self.evaluation == "localize" else ("ours", "paper")

    def check_scenes(self, scenes: tuple[str, ...]) -> None:
        """Raise `GSplatLocError` for a scene that the data set has not; sequences may be a person's own."""
        if self.evaluation != "track":
            known = dict.fromkeys((*self.scenes, *self.data.images))
            require_known("scenes", scenes, known, "see --scenes")


_FULL_7SCENES = "all 17,000 test images of the seven scenes, with the poses named in the title"
_CAMBRIDGE_SPLIT = "all test images; averages are of four landmarks, without GreatCourt"

TABLES: dict[str, Table] = {
    "gsplatloc-7scenes": Table(
        "GSplatLoc, 7-Scenes, SfM pseudo ground truth", data_sets.SEVEN_SCENES_PGT,
        upstream.SEVEN_SCENES_NAMES, published.SEVEN_SCENES_PGT, _FULL_7SCENES,
    ),
    "gsplatloc-7scenes-original": Table(
        "GSplatLoc, 7-Scenes, original (KinectFusion) poses of the colour camera",
        data_sets.SEVEN_SCENES_ORIGINAL, upstream.SEVEN_SCENES_NAMES, published.SEVEN_SCENES_ORIGINAL,
        _FULL_7SCENES,
    ),
    "gsplatloc-cambridge": Table(
        "GSplatLoc, Cambridge Landmarks", data_sets.CAMBRIDGE_LANDMARKS, upstream.CAMBRIDGE_NAMES[:4],
        published.CAMBRIDGE, _CAMBRIDGE_SPLIT, outdoors=True,
    ),
    "12scenes": Table(
        "12-Scenes, SfM pseudo ground truth", data_sets.TWELVE_SCENES_PGT, upstream.TWELVE_SCENES_NAMES,
        published.TWELVE_SCENES_PGT, "all test images of the twelve rooms",
    ),
    "gs-cpr": Table(
        "GS-CPR, 7-Scenes, SfM pseudo ground truth", data_sets.SEVEN_SCENES_PGT, upstream.SEVEN_SCENES_NAMES,
        published.GSCPR, _FULL_7SCENES, "refine",
    ),
    "rgbd-replica": Table(
        "GSplatLoc RGB-D, Replica: ATE RMSE and mean angle", data_sets.REPLICA,
        tuple(data_sets.REPLICA.images), published.REPLICA, "2,000 frames of each of eight rooms", "track",
    ),
    "rgbd-tum": Table(
        "GSplatLoc RGB-D, TUM: ATE RMSE and mean angle", data_sets.TUM_RGBD, data_sets.TUM_NAMES,
        published.TUM, "whole sequences", "track",
    ),
}  # fmt: skip


def table_of(name: str) -> Table:
    """The table of this name; `GSplatLocError` for an unknown one."""
    require_known("a table", [name], TABLES, "choose one")
    return TABLES[name]
