"""Mapping and localization as a whole: one run of train.py; queries, stage by stage."""

import shutil
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.harness.child import map_scene
from benchmarks.harness.yardstick import Lap, Probe, Protocol, Yardstick, timed
from gsplatloc.datasets.options import RoomOptions
from gsplatloc.datasets.room import make_room
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.options import INITIAL
from gsplatloc.scene import read_scene
from gsplatloc.scene.map_config import read_config

QUERY = "query"  # the lap that holds the stages
_KITCHEN, _ROOM = "pgt_7scenes_redkitchen", "room"
_PRODUCTS = 30  # before and after: they cannot alternate with a child's work


def scene_of(wanted: Path | None, data: Path, work: Path) -> Path:
    """The scene to map: the one asked for, RedKitchen where it is here, else a synthetic room."""
    source = wanted or data / _KITCHEN
    if wanted is None and not source.is_dir():
        source = work / _ROOM
        if not (source / "test").is_dir():
            make_room(source, RoomOptions())
    return source


def measure_mapping(source: Path, made: Path, work: Path, protocol: Protocol) -> dict[str, Any]:
    """Seconds, peak memory and GFLOP of torch.matmul in the same time, with the preset for a CPU."""
    shutil.rmtree(made, ignore_errors=True)  # from a clean cache
    yardstick = Yardstick(protocol)
    seconds = [yardstick.product() for _ in range(_PRODUCTS)]
    cost = map_scene(source, made, work / "mapping.log", ["--quiet"])
    seconds += [yardstick.product() for _ in range(_PRODUCTS)]
    return {
        "scene": source.name, "seconds": cost.seconds, "peak_bytes": cost.peak_bytes,
        "gflop": cost.seconds / median(seconds) * yardstick.gflop,
    }  # fmt: skip


def query_probe(map_folder: Path) -> Probe:
    """The test images of a map's scene, one in each run, evenly over all of them."""
    config = read_config(map_folder)
    localizer = Localizer.load(map_folder)
    views = read_scene(config.source_path, config.scene).test
    order = torch.randperm(len(views), generator=torch.Generator().manual_seed(0)).tolist()
    stages = {"features": (localizer.extractor, "extract"), INITIAL: (localizer.initial, "hypotheses")}
    stages |= {refiner.name: (refiner, "refine") for refiner in localizer.refiners}

    def localize(lap: Lap) -> None:
        view = views[order[0]]
        order.append(order.pop(0))
        image = view.load_image()
        with ExitStack() as stack:
            for name, (owner, method) in stages.items():
                stack.enter_context(patch.object(owner, method, timed(owner, method, lap, name)))
            with lap(QUERY):
                localizer.localize(image, view.camera)

    return Probe(f"query in {map_folder.name}", localize)
