"""Making views out of what every layout gives: an image, a lens and a pose."""

import sys
from pathlib import Path

from torch import Tensor

from gsplatloc.scene.cameras import Camera, View
from gsplatloc.scene.images import (
    DEPTH_UNITS_PER_METRE,
    DepthLoader,
    ImageLoader,
    Lens,
    image_size,
    undistorted_camera,
)
from gsplatloc.scene.readers.options import HOLDOUT, SceneOptions
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError

_ASPECT_TOLERANCE = 0.01  # relative; images_4 of an odd width is off by less, a rotated image by far more


def make_view(
    name: str,
    image_path: Path,
    lens: Lens,
    cam_from_world: Tensor,
    options: SceneOptions,
    depth_path: Path | None = None,
    *,
    units_per_metre: float = DEPTH_UNITS_PER_METRE,
    timestamp: float | None = None,
) -> View:
    """A view over `image_path` at the options' resolution; only the image's header is read."""
    lens = fit_lens(lens, image_path)
    pinhole: Camera = undistorted_camera(lens)
    width, height = options.size_of(pinhole.width, pinhole.height)
    return View(
        name=name,
        camera=pinhole.resized(width, height),
        cam_from_world=cam_from_world,
        image_path=image_path,
        load_image=ImageLoader(image_path, lens, width, height, options.white_background),
        load_depth=None
        if depth_path is None
        else DepthLoader(depth_path, lens, width, height, units_per_metre),
        timestamp=timestamp,
    )


def fit_lens(lens: Lens, image_path: Path) -> Lens:
    """The lens over the image as stored: maybe a shrunk copy (`--images images_4`) of the calibrated one."""
    width, height = image_size(image_path)
    if (width, height) == (lens.width, lens.height):
        return lens
    if abs(width * lens.height / (height * lens.width) - 1) > _ASPECT_TOLERANCE:
        raise GSplatLocError(
            f"expected {lens.width}x{lens.height} pixels or that shape in {image_path}, found"
            f" {width}x{height}: it is another image's calibration, or the image was rotated since"
        )
    return lens.resized(width, height)


def split_holdout(views: list[View], options: SceneOptions) -> tuple[list[View], list[View]]:
    """(train, test) in the order of names: with `eval`, every 8th view from the first is a test view."""
    ordered = sorted(views, key=lambda view: view.name)
    if not options.eval:
        return ordered, []
    train = [view for index, view in enumerate(ordered) if index % HOLDOUT]
    return train, ordered[::HOLDOUT]


def report_skipped(root: Path, count: int, why: str) -> None:
    """Say on stderr how many images of a scene were left out, if any."""
    if count:
        plural = "s" if count > 1 else ""
        log(f"{root}: skipped {count} image{plural}: {why}", stream=sys.stderr)
