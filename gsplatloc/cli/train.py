"""Make a feature splat map of a scene: `gsplatloc train -s SCENE -m OUT [--preset cpu]`."""

import sys
from shlex import quote

from gsplatloc.arguments.training import TrainArguments, ViewerArguments, parse_train_arguments
from gsplatloc.mapping.train import train
from gsplatloc.mapping.trainer import Watcher
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import Scene
from gsplatloc.scene.readers.views import without_damaged
from gsplatloc.utils import signals
from gsplatloc.utils.console import log
from gsplatloc.utils.locks import output_folder


def main() -> None:
    arguments = parse_train_arguments()
    with output_folder(arguments.scene.model_path):
        make_map(arguments)


def make_map(arguments: TrainArguments) -> None:
    """Make the map; exits with the code of the signal that ended it, if one did."""
    scene = read_scene(arguments.scene.source_path, arguments.scene.options())
    scene = without_damaged(scene, arguments.scene.strict)
    log(scene.report, arguments.output.quiet, sys.stderr)
    quiet = arguments.output.quiet
    log(f"{scene.name}: {len(scene.train)} training views, {len(scene.test)} test views (not used)", quiet)
    report = train(
        scene,
        arguments.scene.model_path,
        arguments.mapping(),
        arguments.config(),
        watcher=live_view(arguments.viewer, scene),
    )
    if not report.completed:
        sys.exit(signals.exit_code())
    log("\n".join(report.lines()), quiet)
    log(f"next       gsplatloc localize -m {quote(str(arguments.scene.model_path))}", quiet)


def live_view(arguments: ViewerArguments, scene: Scene) -> Watcher | None:
    """The live view if a port is given. viser is optional, so it is imported here."""
    if arguments.port is None:
        return None
    from gsplatloc.visualization.viewer import LiveViewer

    return LiveViewer(arguments.ip, arguments.port, scene.train, arguments.allowed_hosts).update
