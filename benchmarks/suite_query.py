"""The suite's measurements of localization: a query, stage by stage, beside the sparse baseline."""

from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import torch

from benchmarks.accuracy import run
from benchmarks.accuracy_scenes import prepare_for_baseline
from benchmarks.suite_training import timed
from benchmarks.yardstick import Lap, Probe
from gsplatloc.localization.localizer import Localizer
from gsplatloc.scene import read_scene
from gsplatloc.scene.map_config import read_config
from gsplatloc.utils.io import read_json

QUERY = "query"  # the lap that holds the stages


def query_probe(map_folder: Path) -> Probe:
    """The test images of a map's scene, one per run, evenly over all of them."""
    config = read_config(map_folder)
    localizer = Localizer.load(map_folder)
    views = read_scene(config.source_path, config.scene).test
    order = torch.randperm(len(views), generator=torch.Generator().manual_seed(0)).tolist()
    stages = {"features": (localizer.extractor, "extract"), "initial": (localizer, "initial")}
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


def baseline_ms(map_folder: Path, tool: Path, work: Path, python: str) -> float:
    """Milliseconds per query of the sparse baseline on the same images."""
    config = read_config(map_folder)
    scene = prepare_for_baseline(Path(config.source_path), config.scene, work / "baseline_scene")
    result = work / "baseline.json"
    run([python, str(tool), str(scene), "--json", str(result)], work / "baseline.log")
    return float(read_json(result)["total_median_ms"])
