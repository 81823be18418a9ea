"""Refine the poses of any estimator in a map: `python refine_poses.py -m OUT --poses coarse.txt`."""

from pathlib import Path

from gsplatloc.arguments.refinement import RefineArguments, parse_refine_arguments
from gsplatloc.localization.io.pose_files import read_coarse_poses
from gsplatloc.localization.io.results import summary_lines, write_results
from gsplatloc.localization.localizer import splats_bytes
from gsplatloc.localization.map_refiner import (
    FOLDER_NAME,
    INITIAL,
    CoarseQuery,
    MapRefiner,
    coarse_queries,
    coarse_queries_in_folder,
    refine_queries,
    trajectory_of,
)
from gsplatloc.scene import read_scene
from gsplatloc.scene.images import image_files
from gsplatloc.scene.map_config import MapConfig, read_config
from gsplatloc.scene.trajectory import write_tum_trajectory
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError


def main() -> None:
    arguments = parse_refine_arguments()
    config = read_config(arguments.model_path)
    queries = find_queries(arguments, config)
    refiner = MapRefiner.load(
        arguments.model_path, arguments.stages, arguments.options(), arguments.iteration
    )
    results = refine_queries(refiner, queries, arguments.quiet)
    folder = arguments.model_path / FOLDER_NAME
    name = Path(arguments.images or arguments.source_path or config.source_path).resolve().name
    size = splats_bytes(arguments.model_path, arguments.iteration)
    figures = write_results(folder, name, results, size, (INITIAL, *arguments.stages))
    trajectory = trajectory_of(queries, results)
    if trajectory is not None:
        write_tum_trajectory(folder / "trajectory.txt", trajectory)
    log("\n".join(summary_lines(figures)), arguments.quiet)


def find_queries(arguments: RefineArguments, config: MapConfig) -> list[CoarseQuery]:
    """The photos to refine, with their coarse poses: a folder of them, or a split of the scene."""
    if arguments.images is not None:
        names = [path.relative_to(arguments.images).as_posix() for path in image_files(arguments.images)]
        poses = read_coarse_poses(arguments.poses, names, arguments.format)
        return coarse_queries_in_folder(arguments.images, poses, arguments.known_intrinsics())
    scene = read_scene(arguments.source_path or config.source_path, config.scene)
    views = scene.test if arguments.split == "test" else scene.train
    if not views:
        raise GSplatLocError(
            f"expected {arguments.split} images in {scene.root}, found none: see --split and --images"
        )
    stamps = [view.timestamp for view in views]
    poses = read_coarse_poses(arguments.poses, [view.name for view in views], arguments.format, stamps)
    return coarse_queries(views, poses)
