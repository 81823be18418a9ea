#!/usr/bin/env python3
"""The README's picture, docs/images/overview.png, out of `make demo`: a query and where it was found."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.localization.evaluation import QueryResult, pose_error
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.result import PoseEstimate
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import View
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils.console import run_script
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import atomic_path
from gsplatloc.visualization import images, pictures
from gsplatloc.visualization.images import Image

ROOT = Path(__file__).resolve().parents[1]

_WIDTH = 420  # pixels of each of the four panels
_GUTTER = 6  # pixels
_MAX_BYTES = 400_000


@dataclass(frozen=True)
class PictureArguments:
    """Which query to show and where to write."""

    demo: Path = ROOT / "output" / "demo"  # folder of the demo, with its room and its map
    query: int = 18  # index of the test image
    output: Path = ROOT / "docs" / "images" / "overview.png"


def main() -> None:
    arguments = tyro.cli(PictureArguments, description=__doc__, use_underscores=True)
    if not (arguments.demo / "map").is_dir():
        raise GSplatLocError(f"expected the demo's map in {arguments.demo}, found none: run make demo")
    localizer = Localizer.load(arguments.demo / "map")
    view = read_scene(arguments.demo / "room").test[arguments.query]
    write_small_png(arguments.output, overview(localizer, view))
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1000:.0f} kB")


def overview(localizer: Localizer, view: View) -> Image:
    """Query, rendering at the estimated pose, descriptors and depth, side by side."""
    result = QueryResult(view.name, localizer.localize(view.load_image(), view.camera), view.cam_from_world)
    final = result.localization.final
    if not final.ok or localizer.gaussians is None:
        raise GSplatLocError(
            f"expected {view.name} to be localized, found {final.status}: choose another --query"
        )
    error = pose_error(final.cam_from_world, view.cam_from_world)
    panels = {"query": _query_panel(result, view)}
    found = f"map at the pose found: {1000 * error.translation_m:.1f} mm, {error.rotation_deg:.2f}° off"
    panels |= zip((found, "descriptors", "depth"), _map_panels(localizer.gaussians, final), strict=True)
    for text, panel in panels.items():
        pictures.draw_label(panel, text)
    gutter = np.full((next(iter(panels.values())).shape[0], _GUTTER, 3), 255, np.uint8)
    row = [part for panel in panels.values() for part in (panel, gutter)]
    return np.hstack(row[:-1])


def write_small_png(path: Path, image: Image) -> None:
    """Write with a dithered palette of 256 colours; Pillow comes with matplotlib."""
    from PIL import Image as Pillow

    with atomic_path(path) as temporary:
        whole = Pillow.fromarray(image)
        palette = whole.quantize(256)
        dithered = whole.quantize(palette=palette, dither=Pillow.Dither.FLOYDSTEINBERG)
        dithered.save(temporary, format="PNG", optimize=True)
        if temporary.stat().st_size > _MAX_BYTES:
            raise GSplatLocError(f"expected at most {_MAX_BYTES} bytes, found {temporary.stat().st_size}")


def _query_panel(result: QueryResult, view: View) -> Image:
    matches = result.localization.stages["initial"].matches
    photo = view.load_image()
    camera = view.camera.resized(_WIDTH, round(_WIDTH * view.camera.height / view.camera.width))
    panel = images.resize(photo, camera.width, camera.height)
    if matches is not None:
        agreeing = matches.pixels[matches.inliers] * (camera.width / view.camera.width)
        images.draw_dots(panel, agreeing, (70, 222, 120), radius=1.2)
    return panel


@torch.no_grad()
def _map_panels(gaussians: Gaussians, final: PoseEstimate) -> tuple[Image, Image, Image]:
    """Colour, descriptors and depth at the estimated pose, all rendered at the panels' size."""
    camera = final.camera.resized(_WIDTH, round(_WIDTH * final.camera.height / final.camera.width))
    options = RenderOptions(feature_size=(camera.height, camera.width))
    result = render(gaussians, camera, final.pose(), options)
    if result.features is None:
        raise GSplatLocError("expected a map with descriptors, found none: run make demo")
    features = images.FeatureColors(result.features)(result.features)
    return images.to_image(result.rgb), features, images.colorize_depth(result.depth.numpy())


if __name__ == "__main__":
    run_script(main)
