"""Render a map: `gsplatloc render -m OUT [--split path|train|test]`."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import groupby

from gsplatloc.arguments.render import RenderArguments
from gsplatloc.gaussian_renderer.device import rendering_device
from gsplatloc.localization.tiles.place_index import FILE_NAME as PLACES_NAME
from gsplatloc.localization.tiles.place_index import load_places
from gsplatloc.scene.cameras import PosedCamera
from gsplatloc.scene.export import load_gaussians
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.map_config import map_frame, read_cameras
from gsplatloc.scene.tiled_map import is_tiled, read_tiles
from gsplatloc.utils.console import log
from gsplatloc.utils.locks import output_folder
from gsplatloc.visualization.rendering import ImageOptions, Renderings, render_images, write_images
from gsplatloc.visualization.trajectory import cameras_of_poses, smooth_path, test_cameras

_AROUND = 10  # mapping views nearest to a camera; the one that looks most the same way names its tile


def main(arguments: RenderArguments) -> None:
    """Run the command."""
    cameras = find_cameras(arguments)
    options = ImageOptions(arguments.depth, arguments.features, arguments.video, arguments.fps)
    shown, folder = renderings(arguments, cameras, options), arguments.folder()
    with output_folder(folder):
        write_images(folder, shown, len(cameras), options)
    log(f"{len(cameras)} cameras in {folder}")


def renderings(
    arguments: RenderArguments, cameras: Sequence[PosedCamera], options: ImageOptions
) -> Iterator[Renderings]:
    """The renderings of all cameras: in a map in tiles each of the tile that was mapped around it."""
    folder, device = arguments.model_path, rendering_device(arguments.device)
    if not is_tiled(folder):
        return render_images(load_gaussians(folder, arguments.iteration).to(device), cameras, options)
    tiles = read_tiles(folder)
    index = load_places(folder / PLACES_NAME, len(tiles))

    def number_of(posed: PosedCamera) -> int:
        return int(index.tiles[index.around(posed.cam_from_world, _AROUND)[0]])

    @lru_cache(maxsize=2)  # a path may go back and forth between two tiles
    def gaussians_of(number: int) -> Gaussians:
        return load_gaussians(folder / tiles[number].folder, arguments.iteration).to(device)

    def in_tiles() -> Iterator[Renderings]:
        for number, part in groupby(cameras, number_of):
            frame, gaussians = map_frame(folder / tiles[number].folder), gaussians_of(number)
            moved = [replace(posed, cam_from_world=frame.pose_in_map(posed.cam_from_world)) for posed in part]
            yield from render_images(gaussians, moved, options)

    return in_tiles()


def find_cameras(arguments: RenderArguments) -> list[PosedCamera]:
    """The cameras that the arguments choose."""
    if arguments.split == "test" and arguments.poses is None:
        return test_cameras(arguments.model_path)
    training = read_cameras(arguments.model_path)
    if arguments.poses is not None:
        return cameras_of_poses(arguments.poses, training[0].camera, map_frame(arguments.model_path))
    return training if arguments.split == "train" else smooth_path(training, arguments.frames)
