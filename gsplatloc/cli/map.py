"""From photos or a video to a map in one go: `gsplatloc map PHOTOS_OR_VIDEO -m OUT`."""

import hashlib
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from gsplatloc.arguments.map import MapArguments, parse_map_arguments
from gsplatloc.cli.train import next_line
from gsplatloc.datasets.layout import MARKER, building, is_complete
from gsplatloc.datasets.photos import collect
from gsplatloc.gaussian_renderer.device import rendering_device
from gsplatloc.localization.features import make_extractor
from gsplatloc.mapping.options import MappingOptions, OutputOptions
from gsplatloc.mapping.posing import pose_images
from gsplatloc.mapping.train import train
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import Scene
from gsplatloc.scene.export import load_gaussians, saved_iterations
from gsplatloc.scene.images import image_files
from gsplatloc.scene.map_config import config_path, read_cameras
from gsplatloc.scene.readers import has_known_layout
from gsplatloc.scene.readers.views import without_damaged
from gsplatloc.utils import signals
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json, write_json
from gsplatloc.utils.locks import output_folder
from gsplatloc.visualization.first_look import save_first_look

_STATE = "map.json"  # which run the files of the folder are of, and whether it is finished
_PICTURE = "first_look.png"


def main() -> None:
    arguments = parse_map_arguments()
    with output_folder(arguments.model_path) as output:
        map_source(arguments, arguments.source, output)


def map_source(arguments: MapArguments, source: Path, output: Path) -> None:
    """Make the map and its picture; exits with the code of the signal that ended it, if one did."""
    quiet = arguments.posing.quiet
    if not (output / _STATE).is_file() and _holds_a_map(output):
        raise _other_map(output)
    posed = has_known_layout(source)
    scene = read_scene(source if posed else pose_photos(arguments, source, output))
    scene = without_damaged(scene)
    log(scene.report, quiet, sys.stderr)
    if not make_map(arguments, scene, output):
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
        device = rendering_device(options.rendering.device, options.rendering.backend, quiet)
        extractor = make_extractor(options.descriptors.extractor, device, options.descriptors.top_k)
        pose_images(scene / "images", model, work, extractor, arguments.posing)
    shutil.rmtree(work, ignore_errors=True)
    return scene


def make_map(arguments: MapArguments, scene: Scene, output: Path) -> bool:
    """Make the map, or what an earlier run left of it to do; False if Ctrl-C ended the run."""
    options = arguments.mapping()
    run = _name_of_run(scene, options)
    state = read_json(output / _STATE) if (output / _STATE).is_file() else None
    if state == {"run": run, "finished": True}:
        log(f"{output}: the map is complete", arguments.posing.quiet)
        return True
    if state != {"run": run, "finished": False}:
        if state and state.get("finished"):
            raise _other_map(output)
        _remove_checkpoints(output)  # of a run that was stopped, with other options
        shutil.rmtree(output / "point_cloud", ignore_errors=True)
    write_json(output / _STATE, {"run": run, "finished": False})
    checkpoint = max(_checkpoints(output), default=(0, None))[1]
    resumed = replace(options.output, start_checkpoint=None if checkpoint is None else str(checkpoint))
    report = train(scene, output, replace(options, output=resumed), arguments.config(scene.root))
    if report.completed:
        write_json(output / _STATE, {"run": run, "finished": True})
        _remove_checkpoints(output)
        log("\n".join(report.lines()), arguments.posing.quiet)
    return report.completed


def _holds_a_map(output: Path) -> bool:
    """Whether there is a map, or a run that was stopped."""
    return config_path(output).is_file() or bool(saved_iterations(output) or _checkpoints(output))


def _other_map(output: Path) -> GSplatLocError:
    return GSplatLocError(
        f"expected a folder without another map, found one in {output}: remove it, or pass another"
    )


def _name_of_run(scene: Scene, options: MappingOptions) -> str:
    """A hash of what the map depends on."""
    options = replace(options, output=OutputOptions())
    views = [(view.name, view.camera, view.cam_from_world.tolist()) for view in scene.train]
    return hashlib.sha256(repr((options, views)).encode()).hexdigest()[:16]


def _checkpoints(output: Path) -> list[tuple[int, Path]]:
    """The checkpoints in a folder, with their iterations."""
    paths = output.glob("checkpoint_*.safetensors")
    found = [(re.fullmatch(r"checkpoint_(\d+)", path.stem), path) for path in paths]
    return [(int(match[1]), path) for match, path in found if match]


def _remove_checkpoints(output: Path) -> None:
    for _, path in _checkpoints(output):
        path.unlink()
