"""Make a feature splat map of a scene: `gsplatloc train -s SCENE -m OUT [--preset cpu]`."""

import sys
from pathlib import Path
from shlex import quote

from gsplatloc.arguments.training import TrainArguments, ViewerArguments
from gsplatloc.mapping.tiles.train import train_tiles
from gsplatloc.mapping.train import train
from gsplatloc.mapping.trainer import Watcher
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import PosedCamera, Scene
from gsplatloc.scene.checkpoint import checkpoint_path
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.map_config import read_cameras
from gsplatloc.scene.readers.views import without_damaged
from gsplatloc.scene.tiled_map import is_tiled
from gsplatloc.utils import signals
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.locks import output_folder


def main(arguments: TrainArguments) -> None:
    """Run the command."""
    with output_folder(arguments.scene.model_path):
        make_map(arguments)


def make_map(arguments: TrainArguments) -> None:
    """Make the map; exits with the code of the signal that ended it, if one did."""
    scene = read_scene(arguments.scene.source_path, arguments.scene.options())
    scene = without_damaged(scene, arguments.scene.strict, arguments.output.quiet)
    log(scene.report, arguments.output.quiet, sys.stderr)
    quiet = arguments.output.quiet
    log(f"{scene.name}: {len(scene.train)} training views, {len(scene.test)} test views (not used)", quiet)
    if arguments.tile_views is not None:
        make_tiles(arguments, scene, arguments.tile_views)
        return
    if is_tiled(arguments.scene.model_path):
        raise GSplatLocError(
            f"expected a folder without a map in tiles, found one in {arguments.scene.model_path}:"
            " pass --tile_views, or another folder"
        )
    report = train(
        scene,
        arguments.scene.model_path,
        arguments.mapping(),
        arguments.config(),
        watcher=live_view(arguments.viewer, arguments.scene.model_path),
    )
    if not report.completed:
        path = checkpoint_path(arguments.scene.model_path, report.iteration)
        log(f"continue with --start_checkpoint {path}")
        sys.exit(signals.exit_code())
    log("\n".join(report.lines()), quiet)
    log(next_line(scene, arguments.scene.model_path), quiet)


def make_tiles(arguments: TrainArguments, scene: Scene, views: int) -> None:
    """Make a map in tiles of about so many views."""
    if arguments.viewer.port is not None:
        raise GSplatLocError("expected no --port with --tile_views: tiles have no live view, found both")
    output = arguments.scene.model_path
    report = train_tiles(scene, output, arguments.mapping(), arguments.config(), views, arguments.workers)
    log("\n".join([*report.lines(), next_line(scene, output)]), arguments.output.quiet)


def next_line(scene: Scene, output: Path) -> str:
    """The command that localizes images in the map `output` of a scene."""
    queries = "" if scene.test else " --queries FOLDER_OF_NEW_PHOTOS"
    return f"next       gsplatloc localize -m {quote(str(output))}{queries}"


def live_view(arguments: ViewerArguments, model_path: Path) -> Watcher | None:
    """The live view if a port is given. viser is optional, so it is imported here."""
    if arguments.port is None:
        return None
    from gsplatloc.visualization.live_view.viewer import LiveViewer

    viewer = LiveViewer(arguments.ip, arguments.port, allowed_hosts=arguments.allowed_hosts)
    cameras: list[PosedCamera] = []

    def update(gaussians: Gaussians, iteration: int, figures: dict[str, float]) -> None:
        if not cameras:  # mapping writes them in the coordinates of the Gaussians
            cameras.extend(read_cameras(model_path))
            viewer.show_cameras(cameras)
        viewer.update(gaussians, iteration, figures)

    return update
