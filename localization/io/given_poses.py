"""Queries with the poses of another estimator, to be refined; and refined poses as a trajectory."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from gsplatloc.localization.evaluation import QueryResult
from gsplatloc.localization.io.pose_files import ExternalPose
from gsplatloc.localization.queries import (
    Intrinsics,
    QueryImage,
    camera_of_file,
    queries_in_folder,
    query_from_view,
)
from gsplatloc.scene.cameras import View
from gsplatloc.scene.image_header import DamagedImageError
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.scene.readers.views import make_view
from gsplatloc.scene.trajectory import Trajectory
from gsplatloc.utils.errors import GSplatLocError, quoted


def queries_of_views(views: Sequence[View], poses: dict[str, ExternalPose]) -> list[QueryImage]:
    """Views with ground truth as queries; a view without a given pose is a failed query."""
    return [_with_pose(query_from_view(view), poses.get(view.name)) for view in views]


def queries_of_folder(
    folder: Path, poses: dict[str, ExternalPose], intrinsics: Intrinsics
) -> list[QueryImage]:
    """The images under `folder` that have a given pose, with their intrinsics.

    Intrinsics are, in this order: `intrinsics`, those of the pose file (the image is undistorted with them),
    the focal length in EXIF data.
    """
    queries = []
    for query in queries_in_folder(folder, intrinsics):
        pose = poses.get(query.name)
        if pose is not None:
            queries.append(_with_pose(_with_camera(query, folder, pose, intrinsics), pose))
    return queries


def require_cameras(queries: Sequence[QueryImage]) -> None:
    """Raise `GSplatLocError` if the focal length of a query is unknown."""
    for query in queries:
        with suppress(DamagedImageError):
            if query.load_camera() is None:
                raise GSplatLocError(
                    f"expected a focal length of {query.name}, found none: pass --focal or --intrinsics"
                )


def _with_pose(query: QueryImage, pose: ExternalPose | None) -> QueryImage:
    if pose is None:
        return query
    return replace(query, given_pose=pose.cam_from_world, timestamp=pose.timestamp)


def _with_camera(query: QueryImage, folder: Path, pose: ExternalPose, intrinsics: Intrinsics) -> QueryImage:
    if intrinsics.focal is not None or intrinsics.matrix is not None:
        return query
    path = folder / query.name
    if pose.camera_model is not None:
        # A damaged image is an error when it is loaded, which makes it a failed query.
        model, given = pose.camera_model, pose.cam_from_world
        view = cache(partial(make_view, query.name, path, model, given, SceneOptions()))
        return QueryImage(query.name, lambda: view().load_image(), lambda: view().camera)
    if pose.focal is not None:
        if not (math.isfinite(pose.focal) and pose.focal > 0):
            raise GSplatLocError(
                f"expected a positive focal length of {quoted(query.name)} in the pose file, found"
                f" {pose.focal:g}: correct it, or pass --focal"
            )
        known = Intrinsics(pose.focal)
        known.check([path])
        return replace(query, load_camera=lambda: camera_of_file(path, known))
    return query


def trajectory_of(queries: Sequence[QueryImage], results: Sequence[QueryResult]) -> Trajectory | None:
    """The refined poses with the timestamps of the given ones; None if these had no timestamps."""
    stamped = [
        (query.timestamp, result.localization.final.pose())
        for query, result in zip(queries, results)
        if query.timestamp is not None and result.localization.final.ok
    ]
    if not stamped:
        return None
    stamps, poses = zip(*sorted(stamped, key=lambda pair: pair[0]))
    return Trajectory(np.array(stamps), torch.stack(poses))
