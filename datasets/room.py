"""A synthetic scene with exact ground truth: a furnished room, in layout 1 (train/ and test/ folders).

Everything is drawn and ray-cast by our own code from a seed: no download, and the same bytes every time. The
principal point is not at the centre, so that tests detect code that assumes it there.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np

from gsplatloc.datasets.layout import write_png
from gsplatloc.datasets.options import BuildingOptions, RoomOptions
from gsplatloc.datasets.room_camera import Room, RoomView, query_path, training_path
from gsplatloc.datasets.room_surfaces import Array
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils.console import progress
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import write_text

_WORKERS = 2  # threads; numpy releases Python's global lock while it computes


class Rendered(Protocol):
    """A room or a building."""

    def render(self, camera: Camera, cam_from_world: Array, supersampling: int) -> RoomView: ...


def room_camera(options: RoomOptions | BuildingOptions) -> Camera:
    """The camera of every view: 64 degrees wide, its principal point off the centre."""
    focal = 0.8 * options.width
    return Camera(options.width, options.height, focal, focal, 0.508 * options.width, 0.489 * options.height)


def make_room(folder: Path | str, options: RoomOptions | None = None) -> None:
    """Write the scene to `folder`: {train,test}/{rgb,depth,poses,calibration}.

    Poses are camera-to-world 4x4 in metres, calibrations 3x3, depth 16-bit millimetres.

    Raises:
        GSplatLocError: a size or a count is not positive.
    """
    options = options or RoomOptions()
    if min(options.width, options.height, options.train, options.supersampling) < 1 or options.test < 0:
        raise GSplatLocError(f"expected positive sizes and counts, found {options}: correct the options")
    room = Room.build(options.seed)
    rng = np.random.default_rng([options.seed, 1])
    train, test = training_path(options.train, options.arc), query_path(options.test, rng, options.arc)
    for split, poses in (("train", train), ("test", test)):
        named = [(f"frame-{index:06d}", pose) for index, pose in enumerate(poses)]
        write_split(Path(folder) / split, room, named, options)


def write_split(
    folder: Path,
    scene: Rendered,
    named: Sequence[tuple[str, Array]],
    options: RoomOptions | BuildingOptions,
    quiet: bool = True,
) -> None:
    """Render and write the views of a split: names, and poses cam_from_world [4, 4]."""
    camera = room_camera(options)

    def write(index: int) -> None:
        name, pose = named[index]
        view = scene.render(camera, pose, options.supersampling)
        rng = np.random.default_rng([options.seed, index, len(folder.name)])
        _write_view(folder, name, _noisy(view, options.noise, rng), camera, pose)

    with ThreadPoolExecutor(_WORKERS) as pool:
        written = pool.map(write, range(len(named)))
        for _ in progress(written, total=len(named), desc=folder.name, quiet=quiet):
            pass


def _noisy(view: RoomView, sigma: float, rng: np.random.Generator) -> RoomView:
    rgb = view.rgb + rng.normal(0, sigma, view.rgb.shape) if sigma else view.rgb
    return RoomView(np.clip(np.round(rgb), 0, 255).astype(np.uint8), view.depth)


def _write_view(folder: Path, name: str, view: RoomView, camera: Camera, cam_from_world: Array) -> None:
    write_png(folder / "rgb" / f"{name}.color.png", np.ascontiguousarray(view.rgb[..., ::-1]))
    write_png(folder / "depth" / f"{name}.depth.png", np.round(view.depth * 1000).astype(np.uint16))
    _write_matrix(folder / "poses" / f"{name}.pose.txt", np.linalg.inv(cam_from_world))
    _write_matrix(folder / "calibration" / f"{name}.calibration.txt", camera.matrix().numpy())


def _write_matrix(path: Path, matrix: Array) -> None:
    rows = [" ".join(f"{value:.9f}" for value in row) for row in matrix]
    write_text(path, "\n".join(rows) + "\n", durable=False)
