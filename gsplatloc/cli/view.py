"""View a map in the browser: `gsplatloc view -m OUT`."""

import threading
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from torch import Tensor

from gsplatloc.arguments.render import ViewArguments
from gsplatloc.localization.io.saved_matches import read_localized
from gsplatloc.localization.landmarks.file import FILE_NAME as LANDMARKS
from gsplatloc.localization.landmarks.file import load_landmarks
from gsplatloc.localization.localizer import Localizer
from gsplatloc.scene.cameras import Camera, PosedCamera
from gsplatloc.scene.export import saved_iterations
from gsplatloc.scene.map_config import CAMERAS_NAME, config_path, read_config
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.scene.trajectory import read_tum_trajectory
from gsplatloc.utils.console import log
from gsplatloc.visualization.images import RGB, Image
from gsplatloc.visualization.live_view.viewer import LiveViewer
from gsplatloc.visualization.rendering import MapPictures

_TRAJECTORIES: dict[str, RGB] = {"groundtruth.txt": (70, 222, 120), "trajectory.txt": (255, 176, 59)}


def main(arguments: ViewArguments) -> None:
    """Run the command."""
    viewer = open_view(arguments)
    log("press Ctrl-C to stop")
    try:
        threading.Event().wait()
    finally:
        viewer.close()


def open_view(arguments: ViewArguments) -> LiveViewer:
    """The view of a map, of its queries and, where it has landmarks, with a button to localize a photo."""
    folder = arguments.model_path
    splat_map = SplatMap(folder, arguments.iteration)
    gaussians = splat_map.gaussians
    cameras = splat_map.views if (folder / CAMERAS_NAME).is_file() else []
    queries = [query for path in arguments.result_folders() for query in read_localized(path)]
    viewer = LiveViewer(arguments.ip, arguments.port, cameras, arguments.allowed_hosts)
    latest = max(saved_iterations(folder), default=0)
    viewer.update(gaussians, arguments.iteration or latest, {})
    draw, kinds = map_pictures(splat_map, cameras)
    viewer.show_pictures(draw, kinds)
    show_paths(viewer, folder, splat_map)
    has_landmarks = (folder / LANDMARKS).is_file()
    if queries or has_landmarks:
        metric = not config_path(folder).is_file() or read_config(folder).metric
        panel = viewer.show_queries(queries, draw, kinds, splat_map.frame, metric)
        if has_landmarks:
            viewer.show_landmarks(load_landmarks(folder / LANDMARKS))
            viewer.accept_photos(partial(Localizer.load, folder, iteration=arguments.iteration), panel)
    return viewer


def map_pictures(
    splat_map: SplatMap, cameras: list[PosedCamera]
) -> tuple[Callable[[Camera, Tensor, str], Image], tuple[str, ...]]:
    """What draws the map from a camera, and the kinds that it can draw; descriptors are read when needed."""
    plain = MapPictures(splat_map.gaussians, cameras, features=False)
    described = cache(lambda: MapPictures(splat_map.described, cameras))

    def draw(camera: Camera, cam_from_map: Tensor, kind: str) -> Image:
        pictures = described() if kind == "features" else plain
        return pictures.draw(PosedCamera(camera, cam_from_map, ""), (kind,))[kind]

    return draw, ("rgb", "depth", "features") if cameras and splat_map.has_descriptors() else ("rgb", "depth")


def show_paths(viewer: LiveViewer, folder: Path, splat_map: SplatMap) -> None:
    """The trajectories that `gsplatloc track` wrote beside its map."""
    for name, color in _TRAJECTORIES.items():
        if (folder / name).is_file():
            poses = read_tum_trajectory(folder / name).cam_from_world
            viewer.show_trajectory(Path(name).stem, splat_map.frame.pose_in_map(poses), color)
