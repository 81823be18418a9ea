"""Localization in a splat alone, the task of GSVisLoc, beside the full map of the same images.

The Gaussians of each finished map are exported with the standard 3DGS properties: images, descriptors and
landmarks are gone. `gsplatloc from-splat` makes a map of them again, once with the cameras of the mapping
images and once without. The scene's test images are localized in all three maps with the defaults, one map
after the other.
"""

import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks.accuracy.measure import localize
from benchmarks.accuracy.scenes import METRIC_SCENES, SCENES, path_extent
from benchmarks.harness import OUTPUT, RESULTS, ROOT
from benchmarks.harness.child import run
from benchmarks.harness.pages import NONE, number, percent, pose_error, publish, table
from benchmarks.harness.record import Keep, Record, Row, origin_line
from gsplatloc.localization.evaluation import accuracy, stage_error
from gsplatloc.localization.localizer import Localizer, map_bytes
from gsplatloc.localization.options import INITIAL
from gsplatloc.localization.queries import query_from_view
from gsplatloc.localization.result import Status
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import View
from gsplatloc.scene.export import saved_iterations
from gsplatloc.scene.map_config import CAMERAS_NAME, map_frame, read_config
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError

KINDS = ("images", "splat, known cameras", "splat alone")  # what a map is made of
_STAGES = {"initial": INITIAL, "final": None}


@dataclass(frozen=True)
class SplatsArguments:
    """Which maps to use, and where results go."""

    maps: Path = OUTPUT / "accuracy"  # folder of finished maps, MAPS/SCENE/map or MAPS/SCENE
    scenes: tuple[str, ...] = (*SCENES, "hololens_office")  # those without a map are left out
    output: Path = OUTPUT / "splats"  # folder for the maps of splats
    keep: Keep = "commit"  # rows in --results that are not measured again: those of this commit, all, or none
    results: Path = RESULTS / "splats.json"  # file of results
    publish: bool = True  # write the documentation's table at the end


def main() -> None:
    arguments = tyro.cli(SplatsArguments, description=__doc__)
    record = Record(arguments.results, arguments.keep)
    for scene in arguments.scenes:
        folders = (arguments.maps / scene / "map", arguments.maps / scene)
        source = next((folder for folder in folders if saved_iterations(folder)), None)
        if source is None:
            log(f"{scene}: left out, no map in {arguments.maps}")
            continue
        config = read_config(source)
        views = read_scene(config.source_path, config.scene)
        for kind in KINDS:
            key = {"scene": scene, "kind": kind}
            if record.find(**key) is None:
                folder, seconds = map_of(kind, source, arguments.output / scene)
                row = figures(folder, scene, views.train, views.test)
                log(" | ".join(_line(record.put(key, row | {"seconds": seconds}))))
    if arguments.publish:
        publish_splats(record.rows)


def map_of(kind: str, source: Path, work: Path) -> tuple[Path, float | None]:
    """The folder of a map of this kind, and the seconds that it took to make it of the splat."""
    if kind == KINDS[0]:
        return source, None
    if not map_frame(source).is_world:
        raise GSplatLocError(f"expected a map in the coordinates of its scene, found {source}: leave it out")
    splat, folder = work / "splat.ply", work / kind.replace(", ", "-").replace(" ", "-")
    command = [sys.executable, "-m", "gsplatloc"]
    run([*command, "export", "-m", str(source), "--output", str(splat)], work / "export.log")
    shutil.rmtree(folder, ignore_errors=True)
    cameras = ["--cameras", str(source / CAMERAS_NAME)] if kind == KINDS[1] else []
    words = [*command, "from-splat", str(splat), "-m", str(folder), *cameras]
    return folder, run(words, folder.with_suffix(".log")).seconds


def figures(folder: Path, scene: str, train: Sequence[View], test: Sequence[View]) -> Row:
    """Accuracy and cost of localizing the test images with the defaults.

    Positions are metres, or shares of the extent of the camera path in scenes without metric scale.
    """
    localizer = Localizer.load(folder)
    results = localize(localizer, [query_from_view(view) for view in test])
    unit = 1.0 if scene in METRIC_SCENES else path_extent([*train, *test])
    row: Row = {
        "count": len(results),
        "failed": sum(not result.localization.final.ok for result in results),
        "unverified": sum(result.localization.status is Status.UNVERIFIED for result in results),
        "median_ms": statistics.median(result.localization.total_ms for result in results),
        "bytes": map_bytes(localizer),
    }
    for name, stage in _STAGES.items():
        found = accuracy([error for result in results if (error := stage_error(result, stage))])
        row[f"{name}_median"] = found.median_translation_m and found.median_translation_m / unit
        row[f"{name}_deg"] = found.median_rotation_deg
        row[f"{name}_recall"] = found.recall
    return row


def publish_splats(rows: Sequence[Row], root: Path = ROOT) -> list[Path]:
    """Write the table between the marks of `splats`."""
    header = ["scene", "map of", "initial", "final", "5 cm 5°", "failed", "unverified", "ms", "MB", "minutes"]
    return publish({"splats": f"{origin_line(rows)}\n\n{table(header, map(_line, rows))}"}, root)


def _line(row: Row) -> list[str]:
    metric = row["scene"] in METRIC_SCENES
    errors = [_error(row[f"{name}_median"], row[f"{name}_deg"], metric) for name in _STAGES]
    recall = percent(row["final_recall"]["5cm_5deg"]) if metric else NONE
    counts = [f"{row[name]} of {row['count']}" for name in ("failed", "unverified")]
    cost = [number(row["median_ms"]), number(row["bytes"], 1, 1e-6), number(row["seconds"], 1, 1 / 60)]
    return [row["scene"], row["kind"], *errors, recall, *counts, *cost]


def _error(median: float | None, degrees: float | None, metric: bool) -> str:
    if metric or median is None or degrees is None:
        return pose_error(median, degrees, 2)
    return f"{100 * median:.4f} % / {degrees:.3f}°"
