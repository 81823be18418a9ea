"""Refining poses that come from elsewhere: no landmarks, no prior, only a map that can be rendered."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gsplatloc.gaussian_renderer.device import rendering_device
from gsplatloc.localization.alignment.rendered_view import shrunk
from gsplatloc.localization.evaluation import QueryResult
from gsplatloc.localization.features.xfeat import XFeatExtractor
from gsplatloc.localization.io.pose_files import CoarsePose
from gsplatloc.localization.localizer import INITIAL, STAGES, LocalizerOptions, make_refiners
from gsplatloc.localization.matching.images.keypoints import Extractor
from gsplatloc.localization.queries import (
    Intrinsics,
    QueryImage,
    camera_of_file,
    queries_in_folder,
    query_from_view,
)
from gsplatloc.localization.refine import Query, Refiner
from gsplatloc.localization.result import Localization, PoseEstimate, Status
from gsplatloc.scene.cameras import Camera, View
from gsplatloc.scene.export import load_gaussians
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.images import resize_rgb
from gsplatloc.scene.map_config import longest_side
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.scene.readers.views import make_view
from gsplatloc.scene.trajectory import Trajectory
from gsplatloc.utils.console import progress
from gsplatloc.utils.errors import GSplatLocError

FOLDER_NAME = "refined"


@dataclass(frozen=True)
class CoarseQuery:
    """A photo and the pose that another program gave it, if any."""

    image: QueryImage
    cam_from_world: Tensor | None  # [4, 4] float64
    timestamp: float | None = None  # seconds, where that program gave one


class MapRefiner:
    """Refines poses of any origin in a map.

    >>> refiner = MapRefiner.load("output/kitchen", ["gscpr"])
    >>> refiner.refine(image, camera, cam_from_world).final.cam_from_world
    """

    def __init__(
        self,
        gaussians: Gaussians,
        refiners: Sequence[Refiner],
        extractor: Extractor,
        max_side: int | None = None,
    ):
        """`max_side` pixels: larger photos are looked at in this size."""
        self.gaussians, self.refiners, self.extractor = gaussians, tuple(refiners), extractor
        self.max_side = max_side

    @classmethod
    def load(
        cls,
        map_dir: Path | str,
        stages: Sequence[str],
        options: LocalizerOptions | None = None,
        iteration: int | None = None,
    ) -> "MapRefiner":
        """The refinements called `stages` in the map that train.py wrote; `options.stages` are not read."""
        if not stages or not set(stages) <= set(STAGES[1:]) or len(set(stages)) < len(stages):
            raise GSplatLocError(
                f"expected refinements out of {', '.join(STAGES[1:])}, each once,"
                f" found {', '.join(stages) or 'none'}: see --stages"
            )
        options = replace(options or LocalizerOptions(), stages=(INITIAL, *stages))
        device = rendering_device(options.device, quiet=options.quiet)
        refiners = make_refiners(options, map_dir)
        gaussians = load_gaussians(map_dir, iteration).to(device)
        extractor = XFeatExtractor(device, options.top_k)
        return cls(gaussians, refiners, extractor, options.max_side or longest_side(map_dir))

    def refine(self, image: np.ndarray, camera: Camera, cam_from_world: Tensor | None) -> Localization:
        """The stages of an undistorted photo [H, W, 3] uint8 RGB from a coarse pose [4, 4].

        Without a pose there is one stage, failed. The first stage is the coarse pose itself.
        """
        if cam_from_world is None:
            return Localization({INITIAL: PoseEstimate(Status.NOT_GIVEN, camera)})
        height, width = image.shape[:2]
        if (camera.width, camera.height) != (width, height):
            raise GSplatLocError(
                f"expected an image of its camera's {camera.width}x{camera.height}, found {width}x{height}"
            )
        start = time.perf_counter()
        small = camera if self.max_side is None else shrunk(camera, self.max_side)
        image = resize_rgb(image, small.width, small.height)
        features = self.extractor.extract(image)
        features_ms = 1000 * (time.perf_counter() - start)
        estimate = PoseEstimate(Status.OK, small, cam_from_world.double().cpu())
        stages = {INITIAL: estimate}
        query = Query(image, small, features.keypoints, features.dense)
        for refiner in self.refiners:
            estimate = refiner.refine(query, self.gaussians, estimate)
            stages[refiner.name] = estimate
        return Localization(
            {name: stage.resized(width, height) for name, stage in stages.items()}, features_ms
        )


def refine_queries(
    refiner: MapRefiner, queries: Sequence[CoarseQuery], quiet: bool = False
) -> list[QueryResult]:
    """Refine every query in turn, behind a progress bar.

    Raises `GSplatLocError`, before the first, where the focal length of one is not known.
    """
    cameras = [_known_camera(query.image) for query in queries]
    results = []
    for query, camera in progress(list(zip(queries, cameras)), desc="refining", quiet=quiet):
        image = query.image
        localization = refiner.refine(image.load_image(), camera, query.cam_from_world)
        results.append(QueryResult(image.name, localization, image.cam_from_world))
    return results


def _known_camera(image: QueryImage) -> Camera:
    camera = image.load_camera()
    if camera is None:
        raise GSplatLocError(
            f"expected a focal length of {image.name}, found none: pass --focal or --intrinsics"
        )
    return camera


def coarse_queries(views: Sequence[View], poses: dict[str, CoarsePose]) -> list[CoarseQuery]:
    """Views whose true poses are known; those without a coarse pose are bound to fail, and count."""
    return [_coarse_query(query_from_view(view), poses.get(view.name)) for view in views]


def coarse_queries_in_folder(
    folder: Path, poses: dict[str, CoarsePose], intrinsics: Intrinsics
) -> list[CoarseQuery]:
    """The photos under `folder` that have a pose, with the best intrinsics that are known of each.

    First those given, then what the pose file says (undone distortion included), then EXIF.
    """
    queries = []
    for image in queries_in_folder(folder, intrinsics):
        pose = poses.get(image.name)
        if pose is not None:
            queries.append(_coarse_query(_with_camera(image, folder, pose, intrinsics), pose))
    return queries


def _coarse_query(image: QueryImage, pose: CoarsePose | None) -> CoarseQuery:
    return (
        CoarseQuery(image, None) if pose is None else CoarseQuery(image, pose.cam_from_world, pose.timestamp)
    )


def _with_camera(image: QueryImage, folder: Path, pose: CoarsePose, intrinsics: Intrinsics) -> QueryImage:
    if intrinsics.focal is not None or intrinsics.matrix is not None:
        return image
    path = folder / image.name
    if pose.lens is not None:
        view = make_view(image.name, path, pose.lens, pose.cam_from_world, SceneOptions())
        return QueryImage(image.name, view.load_image, lambda: view.camera)
    if pose.focal is not None:
        known = Intrinsics(pose.focal)
        return replace(image, load_camera=lambda: camera_of_file(path, known))
    return image


def trajectory_of(queries: Sequence[CoarseQuery], results: Sequence[QueryResult]) -> Trajectory | None:
    """The refined poses with the times of the coarse ones; None where these had none."""
    stamped = [
        (query.timestamp, result.localization.final.pose())
        for query, result in zip(queries, results)
        if query.timestamp is not None and result.localization.final.ok
    ]
    if not stamped:
        return None
    stamps, poses = zip(*sorted(stamped, key=lambda pair: pair[0]))
    return Trajectory(np.array(stamps), torch.stack(poses))
