"""From photos or a video to a map in one go: `gsplatloc map PHOTOS_OR_VIDEO -m OUT`."""

import shutil
import sys
from pathlib import Path

from gsplatloc.arguments.map import MapArguments
from gsplatloc.cli.train import next_line
from gsplatloc.datasets.layout import building, is_complete
from gsplatloc.datasets.options import MARKER
from gsplatloc.datasets.photos import collect
from gsplatloc.gaussian_renderer.device import rendering_device
from gsplatloc.localization.features import make_extractor
from gsplatloc.mapping.posing import pose_images
from gsplatloc.mapping.resumable import STATE_NAME, holds_a_map, make_map, other_map
from gsplatloc.scene import read_scene
from gsplatloc.scene.export import load_gaussians
from gsplatloc.scene.image_files import image_files
from gsplatloc.scene.map_config import read_cameras
from gsplatloc.scene.readers import has_known_layout, unpacked_scene
from gsplatloc.scene.readers.views import without_damaged
from gsplatloc.utils import signals
from gsplatloc.utils.console import log
from gsplatloc.utils.io import read_json
from gsplatloc.utils.locks import output_folder
from gsplatloc.visualization.first_look import save_first_look

_PICTURE = "first_look.png"


def main(arguments: MapArguments) -> None:
    """Run the command."""
    with output_folder(arguments.model_path) as output:
        map_source(arguments, arguments.source, output)


def map_source(arguments: MapArguments, source: Path, output: Path) -> None:
    """Make the map and its picture; exits with the code of the signal that ended it, if one did."""
    quiet = arguments.posing.quiet
    if not (output / STATE_NAME).is_file() and holds_a_map(output):
        raise other_map(output)
    source = unpacked_scene(source)
    posed = has_known_layout(source)
    folder = source if posed else pose_photos(arguments, source, output)
    scene = read_scene(folder, arguments.scene())
    scene = without_damaged(scene, quiet=quiet)
    log(scene.report, quiet, sys.stderr)
    if not make_map(scene, output, arguments.mapping(), arguments.config(scene.root)):
        log("stopped: the same command goes on from here", quiet)
        sys.exit(signals.exit_code())
    save_first_look(output / _PICTURE, load_gaussians(output), read_cameras(output), scene.train)
    log(f"first look {output / _PICTURE}", quiet)
    if not posed:
        log("scale      arbitrary: lengths are not in metres", quiet)
    log(next_line(scene, output), quiet)


def pose_photos(arguments: MapArguments, source: Path, output: Path) -> Path:
    """The folder of a scene made of photos or a video, unless an earlier run made it."""
    scene, work = output / "scene", output / "posing"
    model, quiet = scene / "sparse" / "0", arguments.posing.quiet
    settings = {"input": str(source.resolve()), "max_side": str(arguments.max_side)}
    settings["camera_model"] = arguments.posing.camera_model
    if source.is_dir():
        photos = [path for path in image_files(source.resolve()) if output.resolve() not in path.parents]
        settings["photos"] = str(len(photos))
    else:
        settings["frames"] = str(arguments.frames)
    marker = scene / MARKER
    if marker.is_file() and not model.is_dir() and read_json(marker) != settings:
        shutil.rmtree(scene)  # of a run that could not pose them
    if not is_complete(scene, settings, quiet):
        shutil.rmtree(work, ignore_errors=True)  # features and matches of other images
        with building(scene, settings, quiet) as (root, _):
            collect(source, root / "images", arguments.frames, arguments.max_side, quiet)
    if not model.is_dir():
        options = arguments.mapping()
        device = rendering_device(options.rendering.device, options.rendering.backend, quiet=True)
        extractor = make_extractor(options.descriptors.extractor, device, options.descriptors.top_k)
        pose_images(scene / "images", model, work, extractor, arguments.posing)
    shutil.rmtree(work, ignore_errors=True)
    return scene
