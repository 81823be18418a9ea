"""Refine the poses of any estimator in a map: `gsplatloc refine -m OUT --poses poses.txt`."""

import sys
from functools import partial
from pathlib import Path

from gsplatloc.arguments.refinement import RefineArguments
from gsplatloc.localization.io.given_poses import (
    queries_of_folder,
    queries_of_views,
    require_cameras,
    trajectory_of,
)
from gsplatloc.localization.io.pose_files import read_pose_file
from gsplatloc.localization.io.results import (
    camera_lines,
    localize_queries,
    summary_lines,
    write_queries,
    write_results,
)
from gsplatloc.localization.queries import QueryImage
from gsplatloc.localization.tiles.localizer import load_localizer
from gsplatloc.scene import read_scene
from gsplatloc.scene.image_files import image_files
from gsplatloc.scene.map_config import MapConfig, read_config
from gsplatloc.scene.trajectory import write_tum_trajectory
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.locks import output_folder


def main(arguments: RefineArguments) -> None:
    """Run the command."""
    config = read_config(arguments.model_path)
    queries = find_queries(arguments, config)
    require_cameras(queries)
    options = arguments.options()
    name = Path(arguments.images or arguments.source_path or config.source_path).resolve().name
    stages = options.chain()
    with output_folder(arguments.folder()) as folder:
        localizer = load_localizer(arguments.model_path, options, arguments.computation.iteration)
        save = partial(write_queries, folder, stages=stages)
        results = localize_queries(localizer, queries, arguments.computation.quiet, save)
        read = localizer.splat_map.bytes_read()
        figures = write_results(folder, name, results, read, stages, config.metric)
        trajectory = trajectory_of(queries, results)
        if trajectory is not None:
            write_tum_trajectory(folder / "trajectory.txt", trajectory)
    log("\n".join([*summary_lines(figures), *camera_lines(results)]), arguments.computation.quiet)


def find_queries(arguments: RefineArguments, config: MapConfig) -> list[QueryImage]:
    """The query images with their given poses: of a folder, or of a split of the scene."""
    quiet = arguments.computation.quiet
    if arguments.images is not None:
        names = [path.relative_to(arguments.images).as_posix() for path in image_files(arguments.images)]
        poses = read_pose_file(arguments.poses, names, arguments.format)
        if len(poses) < len(names):
            without = f"{len(names) - len(poses)} of {len(names)} images in {arguments.images}"
            log(f"{without} have no pose in {arguments.poses}, and are left out", quiet, sys.stderr)
        return queries_of_folder(arguments.images, poses, arguments.camera.known())
    scene = read_scene(arguments.source_path or config.source_path, config.scene)
    log(scene.report, quiet, sys.stderr)
    views = scene.test if arguments.split == "test" else scene.train
    if not views:
        raise GSplatLocError(
            f"expected {arguments.split} images in {scene.root}, found none: see --split and --images"
        )
    stamps = [view.timestamp for view in views]
    poses = read_pose_file(arguments.poses, [view.name for view in views], arguments.format, stamps)
    return queries_of_views(views, poses)
