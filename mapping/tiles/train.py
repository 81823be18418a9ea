"""Mapping in tiles: blocks of views are mapped by `mapping.train`, one after the other or side by side.

Each block is mapped in a process of its own, so that the peak memory is that of one block per worker, however
many there are. A tile whose key is that of its block is not mapped again: the same command goes on with a
stopped run. Then the landmarks of tiles are compared, for places that look alike.
"""

import hashlib
import json
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gsplatloc.gaussian_renderer.device import rendering_device
from gsplatloc.localization.features import make_extractor
from gsplatloc.localization.tiles.place_index import FILE_NAME, PlaceIndex, save_places
from gsplatloc.mapping.feature_cache import FeatureCache
from gsplatloc.mapping.options import MappingOptions
from gsplatloc.mapping.tiles.alike import write_alike
from gsplatloc.mapping.tiles.describe import describe_views
from gsplatloc.mapping.tiles.partition import Block, neighbours, partition
from gsplatloc.mapping.train import train
from gsplatloc.scene.cameras import Scene, SparsePoints, View
from gsplatloc.scene.export import saved_iterations
from gsplatloc.scene.map_config import MapConfig, write_cameras, write_config
from gsplatloc.scene.tiled_map import Tile, write_tiles
from gsplatloc.utils import se3, signals
from gsplatloc.utils.console import log, run_script
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json, write_json
from gsplatloc.utils.memory import peak_mb, trim_heap

MIN_TILE_VIEWS = 10  # fewer do not make a map
_DONE = "tile.json"  # in a tile's folder, written when its map is complete
_FAR = 3.0  # times the median depth of a view's points: farther ones are hardly visible in it
_POLL_S = 0.5  # seconds between looks at the process that maps a tile


@dataclass(frozen=True)
class TilesReport:
    """The result of a run."""

    tiles: list[Tile]
    seconds: float  # of this run
    peak_mb: float  # of the largest processes that map side by side, and the one that started them
    alike: int  # pairs of places that look alike

    def lines(self) -> list[str]:
        """The summary, in lines of text."""
        views = sum(tile.core_views for tile in self.tiles)
        gaussians, landmarks = (
            sum(getattr(t, name) for t in self.tiles) for name in ("gaussians", "landmarks")
        )
        return [
            f"time       {self.seconds:.0f} s, {sum(t.seconds for t in self.tiles) / views:.2f} s per image",
            f"map        {len(self.tiles)} tiles, {gaussians} Gaussians, {landmarks} landmarks",
            f"alike      {self.alike} pairs of places",
            f"memory     at most {self.peak_mb:.0f} MB",
        ]


def train_tiles(
    scene: Scene,
    output: Path | str,
    options: MappingOptions,
    config: MapConfig,
    tile_views: int,
    workers: int = 1,
) -> TilesReport:
    """Make a map in tiles of about `tile_views` views each, without the overlap. Test views are not touched.

    `workers` tiles are mapped at a time, which share the cores. Raises GSplatLocError for errors that a user
    can correct, and if a tile could not be mapped.
    """
    output, start, quiet = Path(output), time.perf_counter(), options.output.quiet
    _check(scene, output, options, tile_views, workers)
    output.mkdir(parents=True, exist_ok=True)
    folder = options.descriptors.cache_dir or str(output / "cache" / "features")
    options = replace(options, descriptors=replace(options.descriptors, cache_dir=folder))
    index, blocks, version = _blocks(scene.train, options, tile_views)
    trim_heap()
    sizes = ", ".join(f"{len(block.core)}+{len(block.overlap)}" for block in blocks)
    log(f"{len(blocks)} tiles of own+overlapping views: {sizes}", quiet)
    tiles = _tiles(scene, blocks, output, options, config, workers)
    save_places(index, output / FILE_NAME)
    alike = write_alike(output, tiles, index)
    write_cameras(output, scene.train)
    write_config(output, replace(config, extractor=version, top_k=options.descriptors.top_k))
    write_tiles(output, tiles)
    largest = sorted((tile.peak_mb for tile in tiles), reverse=True)[:workers]
    return TilesReport(tiles, time.perf_counter() - start, peak_mb() + sum(largest), alike)


def _tiles(
    scene: Scene,
    blocks: Sequence[Block],
    output: Path,
    options: MappingOptions,
    config: MapConfig,
    workers: int,
) -> list[Tile]:
    """The tiles of all blocks; the first that fails stops those that are being mapped."""
    stop = threading.Event()

    def make(number: int) -> Tile | None:
        if stop.is_set():
            return None
        log(f"tile {number + 1} of {len(blocks)}", options.output.quiet)
        try:
            return _tile(number, scene, blocks[number], output, options, config, Worker(workers, stop))
        except BaseException:
            stop.set()
            raise

    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(make, number) for number in range(len(blocks))]
        try:
            for future in as_completed(futures):
                future.result()  # raises what the first that failed has raised
        finally:
            stop.set()
    return [tile for future in futures if (tile := future.result()) is not None]


def _check(scene: Scene, output: Path, options: MappingOptions, tile_views: int, workers: int) -> None:
    if workers < 1:
        raise GSplatLocError(f"expected at least one worker, found --workers {workers}: raise it")
    if tile_views < MIN_TILE_VIEWS:
        raise GSplatLocError(
            f"expected at least {MIN_TILE_VIEWS} views for a tile, found --tile_views {tile_views}: raise it"
        )
    if not scene.train:
        raise GSplatLocError(f"expected training views in {scene.root}, found none: check --source_path")
    if saved_iterations(output):
        raise GSplatLocError(
            f"expected a folder for a map in tiles, found another map in {output}: choose another"
        )
    if options.output.start_checkpoint or scene.rough_poses or options.initialization.refine_poses:
        raise GSplatLocError(
            "expected a scene with exact poses and no --start_checkpoint for --tile_views, found others:"
            " tiles whose poses are refined one by one would not fit together"
        )


def _blocks(
    views: Sequence[View], options: MappingOptions, tile_views: int
) -> tuple[PlaceIndex, list[Block], str]:
    """The index of the views, their blocks, and the version of the extractor; its network is freed."""
    device = rendering_device(options.rendering.device, options.rendering.backend, options.output.quiet)
    descriptors = options.descriptors
    extractor = make_extractor(descriptors.extractor, device, descriptors.top_k)
    assert descriptors.cache_dir is not None
    cache = FeatureCache(Path(descriptors.cache_dir), extractor)
    cache.prepare(views, options.output.quiet)
    words, described = describe_views(cache, views)
    poses = torch.stack([view.cam_from_world.double() for view in views])
    index = PlaceIndex(words, described, poses, torch.zeros(len(views), dtype=torch.int64))
    centers = index.centers - index.centers.median(0).values  # in single precision, also far from the origin
    near = neighbours(centers.float(), described).numpy()
    blocks = partition(centers.numpy(), near, tile_views)
    for number, block in enumerate(blocks):
        index.tiles[block.core] = number
    return index, blocks, extractor.version


@dataclass(frozen=True)
class Worker:
    """One of `count` threads that each wait for the process of a tile, until `stop` is set."""

    count: int
    stop: threading.Event

    @property
    def cores(self) -> int:
        """Threads of a process: its share of the cores."""
        return max(1, torch.get_num_threads() // self.count)


def _tile(
    number: int,
    scene: Scene,
    block: Block,
    output: Path,
    options: MappingOptions,
    config: MapConfig,
    worker: Worker,
) -> Tile:
    """The tile of a block; it is mapped if that was not done before."""
    views = [scene.train[index] for index in block.views]
    points = None if scene.points is None else visible_points(scene.points, views)
    part = replace(scene, train=views, test=[], points=points)
    folder = f"tiles/{number:03d}"
    tile = Tile(folder, len(block.core), len(block.overlap), _key(part, options, config))
    done = output / folder / _DONE
    if done.is_file():
        found = read_json(done)
        if isinstance(found, dict) and found.get("key") == tile.key:
            return Tile(**found)
        done.unlink()
    _in_process(part, output / folder, options, config, tile, worker)
    return Tile(**read_json(done))


def _in_process(
    part: Scene, folder: Path, options: MappingOptions, config: MapConfig, tile: Tile, worker: Worker
) -> None:
    """Map a tile in a process of its own, which ends with this one."""
    process = get_context("spawn").Process(
        target=_run, args=(worker.cores, part, folder, options, config, tile), daemon=True
    )
    process.start()
    try:
        while process.is_alive() and not worker.stop.is_set():
            process.join(_POLL_S)
    finally:
        if process.is_alive():
            process.terminate()
            process.join(signals.GRACE_S)
    if process.exitcode:
        raise GSplatLocError(
            f"expected a map of {len(part.train)} images in {folder}, found exit code {process.exitcode}:"
            " see above; the same command goes on with this tile"
        )


def _run(cores: int, *job: Any) -> None:
    """Map one tile, in a process of its own."""
    torch.set_num_threads(cores)
    run_script(partial(map_tile, *job))


def map_tile(part: Scene, folder: Path, options: MappingOptions, config: MapConfig, tile: Tile) -> None:
    """Map a block and record that it is done; exits with a signal's code if one ended it."""
    start = time.perf_counter()
    report = train(part, folder, options, config)
    if not report.completed:
        raise SystemExit(signals.exit_code())
    seconds, counts = time.perf_counter() - start, (report.gaussians, report.landmarks)
    done = replace(
        tile,
        gaussians=counts[0],
        landmarks=counts[1],
        seconds=seconds,
        cpu_seconds=time.process_time(),
        peak_mb=peak_mb(),
    )
    write_json(folder / _DONE, asdict(done))


def _key(part: Scene, options: MappingOptions, config: MapConfig) -> str:
    """A hash of all that a tile's map depends on: not of where features are kept, nor what is printed."""
    output = replace(options.output, quiet=True)
    descriptors = replace(options.descriptors, cache_dir=None)
    settings = [asdict(replace(options, output=output, descriptors=descriptors)), asdict(config.scene)]
    digest = hashlib.blake2b(json.dumps(settings, default=str).encode(), digest_size=16)
    for view in part.train:
        stat = view.image_path.stat()
        digest.update(f"{view.name} {view.camera} {stat.st_size} {stat.st_mtime_ns}".encode())
        digest.update(view.cam_from_world.numpy().tobytes())
    return digest.hexdigest()


def visible_points(points: SparsePoints, views: Sequence[View]) -> SparsePoints | None:
    """The points in the frustum of a view, up to `_FAR` times the median depth of those; None without any."""
    seen = np.zeros(len(points), bool)
    for view in views:
        pose, camera = view.cam_from_world.numpy(), view.camera
        depth = points.positions @ pose[2, :3] + pose[2, 3]
        front = np.flatnonzero(depth > 0)
        pixels = camera.project(torch.from_numpy(se3.transform(pose, points.positions[front])))
        inside = front[camera.shows(pixels).numpy()]
        if len(inside):
            seen[inside[depth[inside] <= _FAR * np.median(depth[inside])]] = True
    return SparsePoints(points.positions[seen], points.colors[seen]) if seen.any() else None
