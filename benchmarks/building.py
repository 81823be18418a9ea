"""Large places: synthetic buildings of more and more rooms, mapped in tiles, beside a room alone.

Buildings and maps that are there are used again, so that a run goes on where it was stopped. Times of
queries are CPU times of one thread.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import tyro

from benchmarks.harness import OUTPUT
from benchmarks.harness.child import run
from gsplatloc.localization.evaluation import pose_error
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.tiles.localizer import TiledLocalizer
from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.scene.cameras import Scene
from gsplatloc.scene.tiled_map import is_tiled, read_tiles
from gsplatloc.utils.console import log, run_script

_WRONG_M = 1.0  # metres: a pose off by more is of another place; those that look alike are 4.7 m apart
_MAPPING = ("--preset", "cpu", "--early_stop", "0", "--init_max_points", "30000", "--max_gaussians", "40000")


@dataclass(frozen=True)
class BuildingArguments:
    """What to measure."""

    rooms: tuple[int, ...] = (1, 4, 8)
    """numbers of rooms; a building of one is localized in as an ordinary map"""
    iterations: int = 600
    """training steps of each tile"""
    tile_views: int = 80
    """mapping views of a tile, without the overlap"""
    seed: int = 1
    """of the buildings; 0 is the one that the localizer's choices were made with"""
    work: Path = OUTPUT / "building"
    """folder of buildings and maps"""


def main() -> None:
    arguments = tyro.cli(BuildingArguments, prog="python -m benchmarks building", use_underscores=True)
    log("| rooms | images | tiles | mapping | peak memory | map | query | within 5 cm 5° | wrong place |")
    log("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for rooms in arguments.rooms:
        log(measure(arguments, rooms))


def measure(arguments: BuildingArguments, rooms: int) -> str:
    """The line of the table for a building of so many rooms."""
    work = arguments.work / f"{rooms}-rooms"
    scene, full, small = work / "scene", work / "map", work / "small"
    if not (scene / "test").is_dir():
        command("setup", "building", "--output", scene, "--rooms", rooms, "--seed", arguments.seed, work=work)
    if not is_tiled(small):
        steps = ("--iterations", arguments.iterations, "--tile_views", arguments.tile_views)
        command("train", "-s", scene, "-m", full, *_MAPPING, *steps, work=work)
        command("export", "-m", full, "--map", small, work=work)
    tiles, found = read_tiles(full), read_scene(scene, SceneOptions())
    kind = f"{len(tiles)}" if rooms > 1 else "one map"
    cells = [str(rooms), str(len(found.train)), kind]
    cells.append(f"{sum(tile.seconds for tile in tiles) / len(found.train):.2f} s an image")
    cells.append(f"{max(tile.peak_mb for tile in tiles):.0f} MB")
    return " | ".join(["", *cells, *_localized(small, rooms, found), ""]).strip()


def command(name: str, *words: object, work: Path) -> None:
    """Run a command of gsplatloc, its output into a file."""
    start = "from gsplatloc.cli import main; main()"
    run([sys.executable, "-c", start, name, *map(str, words)], work / f"{name}.log")


def _localized(folder: Path, rooms: int, scene: Scene) -> list[str]:
    """Size, CPU time of a query, recall and poses of other places: the last four cells."""
    tiles = read_tiles(folder)
    localizer: Localizer | TiledLocalizer
    localizer = TiledLocalizer.load(folder) if rooms > 1 else Localizer.load(folder / tiles[0].folder)
    times, good, wrong = [], 0, 0
    for view in scene.test:
        image, start = view.load_image(), time.process_time()
        final = localizer.localize(image, view.camera).final
        times.append(1000 * (time.process_time() - start))
        error = pose_error(final.cam_from_world, view.cam_from_world)
        good += error.translation_m < 0.05 and error.rotation_deg < 5
        wrong += final.ok and error.translation_m > _WRONG_M
    count = len(scene.test)
    size = localizer.splat_map.bytes_read() / 1e6 / rooms
    return [f"{size:.1f} MB a room", f"{median(times):.0f} ms", f"{good} of {count}", f"{wrong} of {count}"]


if __name__ == "__main__":
    run_script(main)
