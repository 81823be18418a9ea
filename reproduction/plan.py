"""What making a table will take: images, bytes to download, disk, minutes and memory.

Work is counted in matrix products that this machine could have multiplied meanwhile: a measured rate turns it
into seconds. The counts of `ours` are from RedKitchen (640 x 480), CPU time of one thread; those of `paper`
from single queries and the number of its rendered channels, not from whole runs. Too high on a GPU.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from gsplatloc.datasets.download import remote_size
from gsplatloc.mapping.options import MappingOptions
from gsplatloc.reproduction.data_sets import DataSet
from gsplatloc.reproduction.methods import MethodName
from gsplatloc.reproduction.request import Request
from gsplatloc.scene.image_files import image_files

_SIZE, _YARDSTICK_S = 768, 0.3  # of the square matrices; seconds of measuring
_FEATURES_GFLOP = 40.0  # of a mapping image: features, tracks, descriptors
_TRAINING_GFLOP = {"distilled": 60.0, "aggregated": 7.5, "none": 7.5}  # of an iteration
_QUERY_GFLOP: dict[MethodName, float] = {"ours": 20.0, "paper": 300.0, "sparse": 20.0}
_TRACKING_GFLOP: dict[MethodName, float] = {"ours": 15.0, "paper": 1500.0}  # of a frame
_BASE_BYTES = 1.2e9  # of memory: libraries, Gaussians, optimiser
_BYTES_PER_IMAGE = 0.6e6  # of memory: keypoints and descriptors of a mapping image
_CACHE_PER_IMAGE = 1.0e6  # of disk: the features of a mapping image, until its scene is complete
_BYTES_PER_GAUSSIAN = 400.0  # of disk: the map and its descriptors
_CHECKPOINT_BYTES = {"distilled": 6 * 1500.0, "aggregated": 6 * 300.0, "none": 6 * 300.0}  # per Gaussian
_UNPACKED = 2.2  # bytes on disk while a scene is laid out, and after it, per byte of an archive
_TYPICAL_GAUSSIANS = 300_000  # where the limit is far higher


@dataclass(frozen=True)
class ScenePlan:
    """What one scene will take."""

    scene: str
    state: str  # where its images come from
    images: tuple[int, int] | None  # (mapping, test): counted, else published; None if neither is known
    download: int | None  # bytes; None if the server does not say
    disk: float  # bytes at most, apart from the data that is there
    seconds: dict[MethodName, float]
    memory: float  # bytes


@cache
def matrix_rate() -> float:
    """GFLOP/s of a float32 matrix product on this machine, with the threads that torch uses."""
    a = torch.ones(_SIZE, _SIZE)
    torch.matmul(a, a)
    best, end = float("inf"), time.perf_counter() + _YARDSTICK_S
    while time.perf_counter() < end:
        start = time.perf_counter()
        torch.matmul(a, a)
        best = min(best, time.perf_counter() - start)
    return 2 * _SIZE**3 / 1e9 / best


def plan_scene(request: Request, scene: str, ask: bool = False) -> ScenePlan:
    """The plan of a scene; with `ask` the server is asked for the size of a missing archive."""
    data, options = request.table.data, request.setup
    folder = data.find(options.output, scene)
    archive = data.archive_of(options, scene)
    images = data.images.get(scene) if folder is None else count_images(folder)
    download: int | None = 0
    state = f"found at {folder}"
    if folder is None and archive is not None:
        state = f"to be unpacked from {archive}"
    elif folder is None:
        state = "to be downloaded" if data.setup else f"missing: {data.address}"
        download = _download_bytes(request, data, scene) if ask else None
    train, test = images or (2000, 1000)
    unpacked = 0.0 if folder else _UNPACKED * (archive.stat().st_size if archive else download or 0)
    maps = [_map_bytes(request.mapping(name), train) for name in request.methods]
    tracked = request.table.evaluation == "track"
    return ScenePlan(
        scene,
        state,
        images,
        download,
        unpacked + (0.0 if tracked else sum(maps)),
        {name: _gflop(request, name, train, test) / matrix_rate() for name in request.methods},
        _BASE_BYTES + (0.0 if tracked else _BYTES_PER_IMAGE * train),
    )


def count_images(folder: Path) -> tuple[int, int]:
    """(mapping images, test images) of a scene that is there, counted without reading them."""
    if (folder / "train" / "rgb").is_dir():
        rgb = [folder / split / "rgb" for split in ("train", "test")]
        train, test = (len(image_files(path)) if path.is_dir() else 0 for path in rgb)
        return train, test
    files = [path for path in image_files(folder) if "depth" not in f"{path.parent.name}/{path.name}"]
    return len(files), len(files)


def _download_bytes(request: Request, data: DataSet, scene: str) -> int | None:
    if data.archive is None:
        return None
    return remote_size(data.archive(scene).address(request.setup))


def _gflop(request: Request, name: MethodName, train: int, test: int) -> float:
    if request.table.evaluation == "track":
        return train * _TRACKING_GFLOP[name]
    options = request.mapping(name)
    steps = options.schedule.iterations * _TRAINING_GFLOP[options.descriptors.descriptors]
    queries = -(-test // request.every)
    return train * _FEATURES_GFLOP + steps + queries * _QUERY_GFLOP[name]


def _map_bytes(options: MappingOptions, train: int) -> float:
    """Disk that a map needs while it is made."""
    count = min(options.densification.max_gaussians, _TYPICAL_GAUSSIANS)
    each = _BYTES_PER_GAUSSIAN + _CHECKPOINT_BYTES[options.descriptors.descriptors]
    return train * _CACHE_PER_IMAGE + count * each


def plan_lines(request: Request, plans: Sequence[ScenePlan]) -> list[str]:
    """The plan as text, and its sums."""
    lines = [f"{request.table.title}; methods {', '.join(request.methods)}; output {request.output}"]
    lines.append(
        f"{'scene':<30}{'mapping':>9}{'test':>8}{'download':>12}{'disk':>9}{'time':>12}{'memory':>9}"
    )
    for plan in plans:
        train, test = plan.images or ("?", "?")
        seconds = sum(plan.seconds.values())
        lines.append(
            f"{plan.scene:<30}{train:>9}{test:>8}{_size(plan.download):>12}{_size(plan.disk):>9}"
            f"{duration(seconds):>12}{_size(plan.memory):>9}"
        )
        lines.append(f"  {plan.state}")
    known = [plan.download for plan in plans if plan.download is not None]
    unknown = " and more of unknown size" if len(known) < len(plans) else ""
    seconds = sum(sum(plan.seconds.values()) for plan in plans)
    disk, free = sum(plan.disk for plan in plans), shutil.disk_usage(_existing(request.output)).free
    lines.append(
        f"in all: download {_size(sum(known))}{unknown}, disk {_size(disk)},"
        f" about {duration(seconds)} at {matrix_rate():.0f} GFLOP/s of this machine"
    )
    lines.append(f"free on the disk of the output: {_size(free)}{', which is not enough' * (disk > free)}")
    return lines


def duration(seconds: float) -> str:
    """A rough duration: "45 s", "12 min", "3.4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _size(size: float | None) -> str:
    if size is None:
        return "unknown"
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.0f} MB"


def _existing(folder: Path) -> Path:
    """The nearest folder above that exists."""
    return next(path for path in (folder.resolve(), *folder.resolve().parents) if path.is_dir())
