"""Localization in a splat alone, the task of GSVisLoc, beside the full map of the same images.

The Gaussians of each finished map are exported with the standard 3DGS properties: images, descriptors and
landmarks are gone. `gsplatloc from-splat` makes a map of them again, once with the cameras of the mapping
images and once without. The scene's test images are localized in all of them with the defaults, in the small
map that `gsplatloc export --map` makes of the full one, and in the last one with `--initial gsvisloc`, one
after the other. Times are processor times: the same on a busy machine.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from safetensors import safe_open

from benchmarks import OUTPUT, RESULTS, ROOT
from benchmarks.accuracy.measure import localize
from benchmarks.accuracy.scenes import SCENES, is_metric, path_extent
from benchmarks.harness.measuring import run_gsplatloc
from benchmarks.harness.results import (
    NONE,
    Record,
    RecordArguments,
    Row,
    error_text,
    number,
    origin_line,
    percent,
    publish,
    table,
)
from gsplatloc.localization.evaluation import accuracy, stage_error
from gsplatloc.localization.localizer import Localizer, map_bytes
from gsplatloc.localization.options import INITIAL, LocalizerOptions
from gsplatloc.localization.queries import query_from_view
from gsplatloc.localization.result import Status
from gsplatloc.localization.splat_descriptors.network import WEIGHTS
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import View
from gsplatloc.scene.export import saved_iterations
from gsplatloc.scene.map_config import CAMERAS_NAME, map_frame, read_config
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError

# What a map is made of, and how it is localized in.
IMAGES, SMALL, CAMERAS = "images", "images, small map", "splat, known cameras"
ALONE, LEARNED = "splat alone", "splat alone, learned matcher"
KINDS = (IMAGES, SMALL, CAMERAS, ALONE, LEARNED)
_STAGES = {"initial": INITIAL, "final": None}


@dataclass(frozen=True)
class SplatsArguments(RecordArguments):
    """Which maps to use, and where results go."""

    maps: Path = OUTPUT / "accuracy"  # folder of finished maps, MAPS/SCENE/map or MAPS/SCENE
    scenes: tuple[str, ...] = (*SCENES, "room", "hololens_office")  # those without a map are left out
    kinds: tuple[str, ...] = KINDS  # some of "images", "images, small map", "splat, known cameras", ...
    output: Path = OUTPUT / "splats"  # folder for the maps of splats
    results: Path = RESULTS / "splats.json"  # file of results


def main() -> None:
    arguments = tyro.cli(SplatsArguments, description=__doc__)
    record = Record(arguments.results, arguments.keep)
    for scene in arguments.scenes:
        folders = [arguments.maps / scene / "map", arguments.maps / scene]
        folders += [OUTPUT / "demo" / "map"] if scene == "room" else []  # of `make demo`
        source = next((folder for folder in folders if saved_iterations(folder)), None)
        if source is None:
            log(f"{scene}: left out, no map in {arguments.maps}")
            continue
        config = read_config(source)
        views = read_scene(config.source_path, config.scene)
        made: dict[str, tuple[Path, float | None]] = {}  # folder and seconds by kind
        for kind in arguments.kinds:
            key = {"scene": scene, "kind": kind}
            if record.find(**key) is None:
                maker = ALONE if kind == LEARNED else kind  # both are the same folder
                if maker not in made:
                    made[maker] = map_of(maker, source, arguments.output / scene)
                folder, seconds = made[maker]
                row = figures(folder, scene, views.train, views.test, "gsvisloc" if kind == LEARNED else None)
                row |= {"seconds": None if seconds is None else seconds + row["prepared"]}
                row |= {"trained_on": kind == LEARNED and trained_on(scene)}
                log(" | ".join(_line(record.put(key, row))))
    if arguments.publish:
        publish_splats(record.rows)


def map_of(kind: str, source: Path, work: Path) -> tuple[Path, float | None]:
    """The folder of a map of this kind, and the processor seconds that it took to make it of the splat."""
    if kind == IMAGES:
        return source, None
    folder = work / kind.replace(", ", "-").replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)
    if kind == SMALL:
        run_gsplatloc(["export", "-m", source, "--map", folder], work / "small.log")
        return folder, None
    if not map_frame(source).is_world:
        raise GSplatLocError(f"expected a map in the coordinates of its scene, found {source}: leave it out")
    splat = work / "splat.ply"
    run_gsplatloc(["export", "-m", source, "--output", splat], work / "export.log")
    cameras = ["--cameras", source / CAMERAS_NAME] if kind == CAMERAS else []
    words = ["from-splat", splat, "-m", folder, *cameras]
    return folder, run_gsplatloc(words, folder.with_suffix(".log")).cpu_seconds


def figures(
    folder: Path, scene: str, train: Sequence[View], test: Sequence[View], initial: str | None = None
) -> Row:
    """Accuracy and cost of localizing the test images, with the default initial pose or another.

    Positions are metres, or shares of the extent of the camera path in scenes without metric scale.
    `prepared`: processor seconds in which an initial pose other than the default prepared itself.
    """
    start = time.process_time()
    localizer = Localizer.load(folder, LocalizerOptions(initial=initial) if initial else None)
    prepared = time.process_time() - start if initial else 0.0
    start = time.process_time()
    results = localize(localizer, [query_from_view(view) for view in test])
    spent = time.process_time() - start
    unit = 1.0 if is_metric(scene) else path_extent([*train, *test])
    row: Row = {
        "count": len(results),
        "failed": sum(not result.localization.final.ok for result in results),
        "unverified": sum(result.localization.status is Status.UNVERIFIED for result in results),
        "cpu_ms": 1000 * spent / (len(results) + 1),  # the first is localized twice
        "bytes": map_bytes(localizer),
        "prepared": prepared,
    }
    for name, stage in _STAGES.items():
        found = accuracy([error for result in results if (error := stage_error(result, stage))])
        row[f"{name}_median"] = found.median_translation_m and found.median_translation_m / unit
        row[f"{name}_deg"] = found.median_rotation_deg
        row[f"{name}_recall"] = found.recall
    return row


def trained_on(scene: str) -> bool:
    """Whether the learned matcher's weights have seen photographs of this scene."""
    with safe_open(WEIGHTS, "pt") as file:
        return scene in file.metadata()["places"].replace(":", "").replace(",", "").split()


def publish_splats(rows: Sequence[Row], root: Path = ROOT) -> list[Path]:
    """Write the table between the marks of `splats`."""
    header = ["scene", "map of", *_STAGES, "5 cm 5°", "failed", "unverified", "CPU ms", "MB", "CPU minutes"]
    return publish({"splats": f"{origin_line(rows)}\n\n{table(header, map(_line, rows))}"}, root)


def _line(row: Row) -> list[str]:
    metric = is_metric(row["scene"])
    extent = None if metric else 1.0  # medians are already relative to it
    errors = [error_text(row[f"{name}_median"], row[f"{name}_deg"], 2, extent) for name in _STAGES]
    recall = percent(row["final_recall"]["5cm_5deg"]) if metric else NONE
    counts = [f"{row[name]} of {row['count']}" for name in ("failed", "unverified")]
    cost = [number(row.get("cpu_ms")), number(row["bytes"], 1, 1e-6), number(row["seconds"], 1, 1 / 60)]
    kind = row["kind"] + (" (its photographs seen in training)" if row.get("trained_on") else "")
    return [row["scene"], kind, *errors, recall, *counts, *cost]
