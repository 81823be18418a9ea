"""The README's picture, docs/images/overview.png, from the demo's map: a query and where it was found."""

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from PIL import Image as Pillow

from benchmarks.harness import OUTPUT, ROOT
from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.localization.evaluation import pose_error
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.options import INITIAL
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import View
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import atomic_path
from gsplatloc.visualization import images, pictures
from gsplatloc.visualization.images import Image

_WIDTH = 420  # pixels of each of the four panels
_GUTTER = 6  # pixels
_GREEN = (70, 222, 120)


@dataclass(frozen=True)
class PictureArguments:
    """Which query to show and where to write."""

    demo: Path = OUTPUT / "demo"  # folder of the demo, with its room and its map
    query: int = 18  # index of the test image
    output: Path = ROOT / "docs" / "images" / "overview.png"


def main() -> None:
    arguments = tyro.cli(PictureArguments, description=__doc__)
    if not (arguments.demo / "map").is_dir():
        raise GSplatLocError(f"expected the demo's map in {arguments.demo}, found none: run make demo")
    localizer = Localizer.load(arguments.demo / "map")
    whole = Pillow.fromarray(overview(localizer, read_scene(arguments.demo / "room").test[arguments.query]))
    with atomic_path(arguments.output) as temporary:  # a dithered palette of 256 colours is small
        dithered = whole.quantize(palette=whole.quantize(256), dither=Pillow.Dither.FLOYDSTEINBERG)
        dithered.save(temporary, format="PNG", optimize=True)
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1000:.0f} kB")


@torch.no_grad()
def overview(localizer: Localizer, view: View) -> Image:
    """Query with its inliers, rendering at the estimated pose, descriptors and depth, side by side."""
    photo = view.load_image()
    found = localizer.localize(photo, view.camera)
    final, matches = found.final, found.stages[INITIAL].matches
    if not final.ok or matches is None:
        raise GSplatLocError(
            f"expected {view.name} to be localized, found {final.status}: choose another --query"
        )
    camera = final.camera.resized(_WIDTH, round(_WIDTH * final.camera.height / final.camera.width))
    query = images.resize(photo, camera.width, camera.height)
    inliers = matches.pixels[matches.inliers] * (camera.width / view.camera.width)
    images.draw_dots(query, inliers, _GREEN, radius=1.2)
    options = RenderOptions(feature_size=(camera.height, camera.width))
    result = render(localizer.splat_map.described, camera, final.pose(), options)
    if result.features is None:
        raise GSplatLocError("expected a map with descriptors, found none: run make demo")
    error = pose_error(final.cam_from_world, view.cam_from_world)
    panels = {
        "query": query,
        f"map at the estimated pose: error {1000 * error.translation_m:.1f} mm, {error.rotation_deg:.2f}°":
            images.to_image(result.rgb),
        "descriptors": images.FeatureColors(result.features)(result.features),
        "depth": images.colorize_depth(result.depth.numpy()),
    }  # fmt: skip
    for text, panel in panels.items():
        pictures.draw_label(panel, text)
    return images.side_by_side([*panels.values()], _GUTTER)
