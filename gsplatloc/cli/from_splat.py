"""Make a map of a splat without photographs: `gsplatloc from-splat SPLAT -m OUT`."""

from dataclasses import replace
from pathlib import Path
from shlex import quote

from gsplatloc.arguments.from_splat import FromSplatArguments
from gsplatloc.mapping.from_splat import map_splat
from gsplatloc.scene.cameras import PosedCamera
from gsplatloc.scene.export import find_ply
from gsplatloc.scene.formats import read_splat
from gsplatloc.scene.map_config import config_path, frame_of_splat, map_frame
from gsplatloc.scene.map_frame import MapFrame
from gsplatloc.scene.poses_without_images import read_posed_cameras
from gsplatloc.scene.similarity import Similarity, read_similarity
from gsplatloc.utils.console import log
from gsplatloc.utils.locks import output_folder


def main(arguments: FromSplatArguments) -> None:
    """Run the command."""
    path = find_ply(arguments.splat).resolve()
    cameras, frame = None, frame_of_splat(path)
    if arguments.cameras is not None:
        cameras, frame = posed_in(arguments.cameras, frame)
    move, frame = transform_of(arguments).in_frame(frame)
    gaussians = move.gaussians(read_splat(path, double=True))
    cameras = None if cameras is None else [move.camera(view) for view in cameras]
    with output_folder(arguments.model_path) as output:
        map_splat(gaussians, output, path, cameras, arguments.splats, frame, arguments.virtual)
    words = f"gsplatloc localize -m {quote(str(arguments.model_path))} --queries PHOTOS"
    log(f"next       {words}", arguments.splats.quiet)


def transform_of(arguments: FromSplatArguments) -> Similarity:
    """From the coordinates of the splat to those of the map; raises `GSplatLocError` for a wrong file."""
    if arguments.similarity is not None:
        return read_similarity(arguments.similarity)
    return Similarity.of_scale(arguments.factor())


def posed_in(path: Path, frame: MapFrame | None) -> tuple[list[PosedCamera], MapFrame | None]:
    """The cameras of a file in the coordinates `frame`, and these: those of the file if `frame` is None.

    The cameras of a map have its coordinates, as its exported splats have, and other cameras those of the
    world. None: the world's.
    """
    cameras = read_posed_cameras(path)
    folder = path if path.is_dir() else path.parent
    own = map_frame(folder) if config_path(folder).is_file() else None
    if frame is None or frame == own:
        return cameras, own
    found = []
    for view in cameras:
        world = view.cam_from_world if own is None else own.pose_in_world(view.cam_from_world)
        found.append(replace(view, cam_from_world=frame.pose_in_map(world)))
    return found, frame
