"""Large places: a synthetic building, mapped in tiles with more and more of its rooms, beside a room alone.

The images of the first rooms are those of the largest building. What was made is used again, so that a run
goes on where it was stopped. Times are CPU times, of queries on one thread: other work on the machine changes
them less.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

import torch
import tyro

from benchmarks import OUTPUT, RESULTS, ROOT
from benchmarks.harness.measuring import run_gsplatloc
from benchmarks.harness.results import Record, Row, number, origin_line, publish, saved_figure, table
from gsplatloc.localization.evaluation import pose_error
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.result import Status
from gsplatloc.localization.tiles.localizer import TiledLocalizer
from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.scene.cameras import Scene
from gsplatloc.scene.tiled_map import is_tiled, read_tiles
from gsplatloc.utils.console import log, run_script
from gsplatloc.utils.memory import peak_mb

_WRONG_M = 1.0  # metres: a pose off by more is of another place; those that look alike are 4.7 m apart
# Pictures of 160 x 128 are trained at full size from the beginning.
_MAPPING = ("--preset", "cpu", "--early_stop", "0", "--pyramid", "--descriptors", "none",
            "--init_max_points", "40000", "--max_gaussians", "40000")  # fmt: skip
_STEPS = 700
_CURVES: tuple[tuple[str, str, Callable[[Row], float]], ...] = (
    ("mapping, CPU s", "C0", lambda row: row["mapping_cpu_s"]),
    ("mapping, largest process, MB", "C1", lambda row: row["peak_mb"]),
    ("map, MB", "C2", lambda row: row["map_mb"]),
    ("query, CPU ms (median)", "C0", lambda row: row["query_cpu_ms"]),
    ("query, memory, MB", "C1", lambda row: row["query_mb"]),
    ("within 5 cm 5°, %", "C2", lambda row: 100 * row["good"] / row["queries"]),
)


@dataclass(frozen=True)
class BuildingArguments:
    """What to measure."""

    rooms: tuple[int, ...] = (1, 8, 14)
    """numbers of rooms; one is localized in as an ordinary map. 34 rooms have 2,550 images"""
    iterations: int = _STEPS
    """training steps of each tile; after 300, pictures on the walls are too blurred to tell twins apart"""
    tile_views: int = 80
    """mapping views of a tile, without the overlap"""
    workers: int = 1
    """tiles that are mapped at a time"""
    seed: int = 1
    """of the building; 0 and 2 are those that the localizer's choices were made with"""
    work: Path = OUTPUT / "building"
    """folder of building and maps"""


def main() -> None:
    arguments = tyro.cli(BuildingArguments, prog="python -m benchmarks building", use_underscores=True)
    record = Record(RESULTS / "building.json", keep="none")
    for rooms in sorted(arguments.rooms):
        figures = measure(arguments, rooms)
        log(str(record.put({"rooms": rooms, "seed": arguments.seed}, figures)))
    publish_building(record.rows)


def publish_building(rows: Sequence[Row], root: Path = ROOT) -> list[Path]:
    """Write the table between the marks of `building`, and the plot, below `root`."""
    plot(rows, root / "docs/images/building.png")
    return publish({"building": page(rows)}, root)


def page(rows: Sequence[Row]) -> str:
    """The table of the documentation."""
    header = ("rooms", "images", "tiles", "steps a tile", "mapping, CPU", "peak memory", "map", "query, CPU",
              "memory", "within 5 cm 5°", "`ok` in another place", "unverified")  # fmt: skip
    lines = [
        (
            *(str(row[name]) for name in ("rooms", "images", "tiles", "steps")),
            number(row["mapping_cpu_s"], 2, 1 / row["images"], " s an image"),
            number(row["peak_mb"], unit=" MB"),
            number(row["map_mb"] / row["rooms"], 1, unit=" MB a room"),
            number(row["query_cpu_ms"], unit=" ms") + f" (mean {row['query_mean_cpu_ms']:.0f})",
            number(row["query_mb"], unit=" MB"),
            *(f"{row[name]} of {row['queries']}" for name in ("good", "wrong")),
            str(row["unverified"]),
        )
        for row in sorted(rows, key=lambda row: row["rooms"])
    ]
    return f"{table(header, lines)}\n\n{origin_line(rows)}"


def plot(rows: Sequence[Row], path: Path) -> None:
    """What grows with the number of images, of two or more rows: a panel for each of `_CURVES`, from 0."""
    rows = sorted((row for row in rows if row["steps"] == _STEPS), key=lambda row: row["images"])
    if len(rows) < 2:
        return
    images = [row["images"] for row in rows]
    with saved_figure(path, (8, 4)) as figure:
        for axes, (title, color, value) in zip(figure.subplots(2, 3).flat, _CURVES, strict=True):
            axes.plot(images, [value(row) for row in rows], marker="o", markersize=3, color=color)
            axes.set(title=title, xlabel="mapping images", xlim=(0, None), ylim=(0, None))


def measure(arguments: BuildingArguments, rooms: int) -> Row:
    """The figures with so many rooms."""
    work = arguments.work / f"{rooms}-rooms-{arguments.iterations}"
    whole, scene, full, small = arguments.work / "scene", work / "scene", work / "map", work / "small"
    if not (whole / "test").is_dir():
        most = ("--rooms", max(arguments.rooms), "--seed", arguments.seed)
        run_gsplatloc(["setup", "building", "--output", whole, *most], work / "setup.log")
    take_rooms(whole, scene, rooms)
    if not is_tiled(small):
        steps = ("--iterations", arguments.iterations, "--tile_views", arguments.tile_views)
        more = ("--workers", arguments.workers, "--cache_dir", arguments.work / "features")
        run_gsplatloc(["train", "-s", scene, "-m", full, *_MAPPING, *steps, *more], work / "train.log")
        run_gsplatloc(["export", "-m", full, "--map", small], work / "export.log")
    tiles, found = read_tiles(full), read_scene(scene, SceneOptions())
    figures: Row = {"images": len(found.train), "tiles": len(tiles), "steps": arguments.iterations}
    figures["mapping_cpu_s"] = sum(tile.cpu_seconds for tile in tiles) or None
    figures["peak_mb"] = max(tile.peak_mb for tile in tiles)
    return figures | localized(small, rooms, found)


def take_rooms(whole: Path, scene: Path, rooms: int) -> None:
    """Link the images of the first rooms, and of the corridor between them, into a scene of their own."""
    for path in sorted(whole.glob("*/*/*")):
        zone = path.name.split("-")[2].split(".")[0]  # room007, corridor003
        if int(zone[-3:]) < (rooms if zone.startswith("room") else (rooms + 1) // 2):
            target = scene / path.relative_to(whole)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                target.symlink_to(path.resolve())


def localized(folder: Path, rooms: int, scene: Scene) -> Row:
    """Size of the map, CPU time and memory of queries, recall, and poses in other places."""
    torch.set_num_threads(1)
    tiles = read_tiles(folder)
    localizer: Localizer | TiledLocalizer
    localizer = TiledLocalizer.load(folder) if rooms > 1 else Localizer.load(folder / tiles[0].folder)
    times, good, wrong, unverified = [], 0, 0, 0
    for view in scene.test:
        image, start = view.load_image(), time.process_time()
        found = localizer.localize(image, view.camera)
        times.append(1000 * (time.process_time() - start))
        error = pose_error(found.final.cam_from_world, view.cam_from_world)
        good += error.translation_m < 0.05 and error.rotation_deg < 5
        wrong += found.status is Status.OK and error.translation_m > _WRONG_M
        unverified += found.status is Status.UNVERIFIED
    return {
        "map_mb": localizer.splat_map.bytes_read() / 1e6,
        "query_cpu_ms": median(times),
        "query_mean_cpu_ms": fmean(times),
        "query_mb": peak_mb(),
        "queries": len(scene.test),
        "good": good,
        "wrong": wrong,
        "unverified": unverified,
    }


if __name__ == "__main__":
    run_script(main)
