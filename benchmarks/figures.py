"""Writes every table and plot of the documentation from the recorded results, which it does not change.

Each table goes between its marks, `<!-- NAME: begin -->` and `<!-- NAME: end -->`, on whatever page has them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks import RESULTS
from benchmarks.accuracy.hard import publish_hard
from benchmarks.accuracy.report import publish_accuracy
from benchmarks.building import publish_building
from benchmarks.cluster import publish_cluster
from benchmarks.harness.results import read_rows
from benchmarks.performance.busy import publish_busy
from benchmarks.performance.command import publish_performance
from benchmarks.performance.gate import BASELINE
from benchmarks.systems.convergence import publish_convergence
from benchmarks.systems.photos import publish_photos
from benchmarks.systems.refinement import publish_refinement
from benchmarks.systems.rgbd import publish_rgbd
from benchmarks.systems.rough_poses import publish_rough_poses
from benchmarks.systems.splats import publish_splats
from gsplatloc.utils.errors import require_known
from gsplatloc.utils.io import read_json

PUBLISHERS: dict[str, Callable[[Any], list[Path]]] = {
    "accuracy": publish_accuracy,
    "hard": publish_hard,
    "convergence": publish_convergence,
    "refinement": publish_refinement,
    "rgbd": publish_rgbd,
    "splats": publish_splats,
    "photos": publish_photos,
    "rough_poses": publish_rough_poses,
    "building": publish_building,
    "cluster": publish_cluster,
    "busy": publish_busy,
}


@dataclass(frozen=True)
class FiguresArguments:
    """What is written."""

    names: tuple[str, ...] = (*PUBLISHERS, "performance")  # results whose tables and plots are written
    results: Path = RESULTS  # folder of the results


def main() -> None:
    arguments = tyro.cli(FiguresArguments, description=__doc__)
    require_known("results", arguments.names, (*PUBLISHERS, "performance"), "see --names")
    for name in arguments.names:
        path = arguments.results / f"{name}.json"
        if name != "performance" and not path.is_file():
            print(f"{name}: left out, there are no results in {path}")
            continue
        if name == "performance":
            pages = publish_performance(read_json(BASELINE)["full"])
        else:
            pages = PUBLISHERS[name](read_rows(path))
        print(f"{name}: {', '.join(dict.fromkeys(map(str, pages)))}")
