"""The whole path in a few minutes, without a download: make a room, map it, localize in it, check the errors.

Runs the same commands that a user would, on a synthetic scene with known poses, and fails if the result is
less accurate than demanded.
"""

import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from PIL import Image as Pillow

from benchmarks import OUTPUT, ROOT
from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.localization.evaluation import pose_error
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.options import INITIAL
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import View
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import atomic_path, read_json
from gsplatloc.visualization import images, pictures
from gsplatloc.visualization.images import Image

# A short run over small images: everything that the preset does happens in fewer iterations.
_TRAINING = (
    "--preset cpu --iterations {iterations} --position_lr_max_steps {iterations}"
    " --test_iterations {iterations} --save_iterations {iterations} --pyramid 0.15 0.4 --sh_interval 500"
    " --init_max_points 60000 --max_gaussians 100000"
    " --densify_from_iter 100 --densify_until_iter {densify_until} --densification_interval 50"
)
_PICTURE = ROOT / "docs" / "images" / "overview.png"
_SHOWN = 18  # index of the test image in the picture
_WIDTH = 420  # pixels of each of the four panels
_GUTTER = 6  # pixels
_GREEN = (70, 222, 120)


@dataclass(frozen=True)
class DemoArguments:
    """What the demo makes, and which accuracy it demands."""

    output: Path = OUTPUT / "demo"  # folder for the scene and the map
    train: int = 80  # training views
    test: int = 20  # views to localize
    iterations: int = 1_800  # of mapping
    max_median_cm: float = 0.25  # the final median position error must be below
    max_median_deg: float = 0.05  # the final median rotation error must be below
    min_recall: float = 0.95  # of the queries must be within 5 cm and 5 degrees
    picture: bool = False  # write the README's picture, a query and where it was found


def main() -> None:
    arguments = tyro.cli(DemoArguments, description=__doc__, use_underscores=True)
    seconds = {name: run(name, command) for name, command in commands(arguments).items()}
    folder = arguments.output / "map" / "localization"
    metrics = read_json(folder / "metrics.json")
    total = ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
    print(f"\nmap        {metrics['map_bytes'] / 1e6:.1f} MB read; {sum(seconds.values()):.0f} s ({total})")
    print(f"report     {shown(folder / 'report.html')}\npictures   {shown(folder / 'pictures')}")
    check(metrics, arguments)
    if arguments.picture:
        write_picture(arguments.output)


def commands(arguments: DemoArguments) -> dict[str, list[str]]:
    """The three commands, by name."""
    scene, model = arguments.output / "room", arguments.output / "map"
    counts = ["--train", str(arguments.train), "--test", str(arguments.test)]
    steps = {"iterations": arguments.iterations, "densify_until": arguments.iterations * 2 // 3}
    training = _TRAINING.format(**steps).split()
    return {
        "room": ["datasets/make_room.py", "--output", shown(scene), *counts],
        "mapping": ["train.py", "-s", shown(scene), "-m", shown(model), *training],
        "localization": ["loc_inference.py", "-m", shown(model)],
    }


def run(name: str, command: Sequence[str]) -> float:
    """Run one of our scripts with this interpreter; returns the seconds it took."""
    print(f"\n$ python {shlex.join(command)}", flush=True)
    start = time.perf_counter()
    finished = subprocess.run([sys.executable, *command], cwd=ROOT, check=False)
    if finished.returncode != 0:
        raise GSplatLocError(
            f"expected the step '{name}' to succeed, found exit code {finished.returncode}: see above"
        )
    return time.perf_counter() - start


def check(metrics: Mapping[str, Any], arguments: DemoArguments) -> None:
    """Raise `GSplatLocError` where the result is less accurate than demanded."""
    final = metrics["final"]
    medians = final["median_translation_m"], final["median_rotation_deg"]
    metres, degrees = (float("inf") if value is None else value for value in medians)
    centimetres, recall = 100 * metres, final["recall"]["5cm_5deg"]
    demands = [
        (centimetres <= arguments.max_median_cm, f"{arguments.max_median_cm} cm", f"{centimetres:.2f} cm"),
        (degrees <= arguments.max_median_deg, f"{arguments.max_median_deg}°", f"{degrees:.3f}°"),
        (recall >= arguments.min_recall, f"{arguments.min_recall:.0%} at 5 cm 5°", f"{recall:.0%}"),
    ]
    for met, expected, found in demands:
        if not met:
            raise GSplatLocError(
                f"expected {expected} or better, found {found}: the demo is less accurate than it was"
            )


def shown(path: Path) -> str:
    """A path relative to the project's root, where the commands run; absolute if it is outside."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.resolve())


def write_picture(demo: Path) -> None:
    """Write the README's picture from the demo's folder."""
    view = read_scene(demo / "room").test[_SHOWN]
    whole = Pillow.fromarray(overview(Localizer.load(demo / "map"), view))
    with atomic_path(_PICTURE) as temporary:  # a dithered palette of 256 colours is small
        dithered = whole.quantize(palette=whole.quantize(256), dither=Pillow.Dither.FLOYDSTEINBERG)
        dithered.save(temporary, format="PNG", optimize=True)


@torch.no_grad()
def overview(localizer: Localizer, view: View) -> Image:
    """Query with its inliers, rendering at the estimated pose, descriptors and depth, side by side."""
    photo = view.load_image()
    found = localizer.localize(photo, view.camera)
    final, matches = found.final, found.stages[INITIAL].matches
    if not final.ok or matches is None:
        raise GSplatLocError(
            f"expected {view.name} to be localized, found {final.status}: choose another image to show"
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
