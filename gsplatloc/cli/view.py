"""View a map in the browser: `gsplatloc view -m OUT`."""

import threading

from gsplatloc.arguments.render import parse_view_arguments
from gsplatloc.localization.io.json_lines import read_json_lines
from gsplatloc.scene.export import load_gaussians, saved_iterations
from gsplatloc.scene.map_config import map_frame, read_cameras
from gsplatloc.utils.console import log
from gsplatloc.visualization.viewer import LiveViewer


def main() -> None:
    arguments = parse_view_arguments()
    gaussians = load_gaussians(arguments.model_path, arguments.iteration)
    has_cameras = (arguments.model_path / "cameras.json").is_file()
    cameras = read_cameras(arguments.model_path) if has_cameras else []
    viewer = LiveViewer(arguments.ip, arguments.port, cameras, arguments.allowed_hosts)
    latest = max(saved_iterations(arguments.model_path), default=0)
    viewer.update(gaussians, arguments.iteration or latest, {})
    queries = [query for path in arguments.result_files() for query in read_json_lines(path)]
    if queries:
        viewer.show_queries(queries, gaussians, map_frame(arguments.model_path))
    log("press Ctrl-C to stop")
    try:
        threading.Event().wait()
    finally:
        viewer.close()
