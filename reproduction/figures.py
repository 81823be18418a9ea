"""The figures of a table: rows of every scene that is complete, their means, and what they cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from gsplatloc.localization.evaluation import RECALL_THRESHOLDS
from gsplatloc.reproduction.costs import read_costs
from gsplatloc.reproduction.methods import MethodName
from gsplatloc.reproduction.request import Request
from gsplatloc.reproduction.scene_run import COSTS_NAME, RESULT_NAME
from gsplatloc.utils.io import read_json
from gsplatloc.utils.machine import short_commit

AVERAGE = "average"  # in place of a scene: the mean over the scenes


@dataclass(frozen=True)
class Row:
    """The accuracy of one method in one scene, or its mean over scenes."""

    scene: str
    label: str
    count: int  # queries
    failed: int
    cm: float  # median position error, centimetres (RGB-D: ATE RMSE); infinite if half of the queries failed
    deg: float | None  # median rotation error, degrees (RGB-D: mean angle, None for a straight path)
    recall: Mapping[str, float]  # share of all queries, by threshold


@dataclass(frozen=True)
class Cost:
    """What one method took in one scene. Times and memory differ from run to run, unlike rows."""

    scene: str
    method: str
    mapping_images: int
    test_images: int  # in the scene; the rows say how many were localized
    map_mb: float
    making_minutes: float  # of mapping or tracking, without runs that were killed
    making_gb: float  # peak memory
    localization_gb: float  # peak memory
    query_ms: float  # median of whole queries (RGB-D: mean per frame)
    runs: int  # into which the first of these was divided by interruptions
    commit: str  # of the code that finished the scene


def scenes_done(request: Request, keys: Mapping[tuple[str, MethodName], str]) -> list[tuple[str, MethodName]]:
    """The scenes and methods, of those in `keys`, whose result is complete and of this request."""
    found = []
    for (scene, method), key in keys.items():
        path = request.output / scene / method / RESULT_NAME
        result = read_json(path) if path.is_file() else None
        if isinstance(result, dict) and result.get("key") == key:
            found.append((scene, method))
    return found


def read_rows(request: Request, done: Sequence[tuple[str, MethodName]]) -> list[Row]:
    """The rows of all complete scenes, in the order of `done`."""
    rows = []
    for scene, method in done:
        for row in read_json(request.output / scene / method / RESULT_NAME)["rows"]:
            cm = math.inf if row["cm"] is None else row["cm"]
            deg = math.inf if row["deg"] is None and row["recall"] else row["deg"]
            rows.append(Row(scene, row["label"], row["count"], row["failed"], cm, deg, row["recall"]))
    return rows


def read_cost(request: Request, scene: str, method: str) -> Cost:
    """What a complete scene took."""
    folder = request.output / scene / method
    result, costs = read_json(folder / RESULT_NAME), read_costs(folder / COSTS_NAME)
    parts = [costs, *map(read_costs, (request.output / scene / method).glob(f"*-{COSTS_NAME}"))]
    peak = max(part.get("localization", {}).get("peak_bytes", 0) for part in parts)
    making = costs.get("mapping", costs.get("tracking", {}))
    times = [value for value in result["query_ms"].values() if value is not None]
    return Cost(
        scene, method, result["mapping_images"], result["test_images"], result["map_bytes"] / 1e6,
        making.get("seconds", 0.0) / 60, making.get("peak_bytes", 0) / 1e9,
        peak / 1e9, max(times, default=0.0),
        making.get("runs", 1), short_commit(result["commit"]),
    )  # fmt: skip


def averages(rows: Sequence[Row]) -> list[Row]:
    """One row per label: means over its scenes, as papers form them."""
    found = []
    for label in dict.fromkeys(row.label for row in rows):
        same = [row for row in rows if row.label == label]
        angles = [row.deg for row in same if row.deg is not None]
        thresholds = RECALL_THRESHOLDS if same[0].recall else {}
        found.append(
            Row(
                AVERAGE, label, sum(row.count for row in same), sum(row.failed for row in same),
                fmean(row.cm for row in same), fmean(angles) if angles else None,
                {name: fmean(row.recall[name] for row in same) for name in thresholds},
            )
        )  # fmt: skip
    return found
