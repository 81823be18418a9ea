"""Make a map of a splat without photographs: `gsplatloc from-splat SPLAT -m OUT --cameras FILE`."""

import math
from dataclasses import replace
from shlex import quote

from gsplatloc.arguments.from_splat import parse_from_splat_arguments
from gsplatloc.mapping.from_splat import map_splat
from gsplatloc.scene.cameras import PosedCamera
from gsplatloc.scene.export import find_ply
from gsplatloc.scene.formats import read_splat
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.poses_without_images import read_posed_cameras
from gsplatloc.utils.console import log


def main() -> None:
    arguments = parse_from_splat_arguments()
    cameras = read_posed_cameras(arguments.cameras)
    path = find_ply(arguments.splat)
    gaussians, cameras = scaled(read_splat(path), cameras, arguments.scale)
    map_splat(gaussians, arguments.model_path, path.resolve(), cameras, arguments.splats)
    words = f"gsplatloc localize -m {quote(str(arguments.model_path))} --queries PHOTOS"
    log(f"next       {words}", arguments.splats.quiet)


def scaled(
    gaussians: Gaussians, cameras: list[PosedCamera], scale: float
) -> tuple[Gaussians, list[PosedCamera]]:
    """A splat and cameras in it with all lengths multiplied by `scale`."""
    if scale == 1:
        return gaussians, cameras
    larger = replace(
        gaussians, means=gaussians.means * scale, log_scales=gaussians.log_scales + math.log(scale)
    )
    moved = []
    for view in cameras:
        pose = view.cam_from_world.clone()
        pose[:3, 3] *= scale
        moved.append(replace(view, cam_from_world=pose))
    return larger, moved
