"""A refiner in one file: follow corners of a rendering into the query image, lift them by depth, solve PnP.

GSPLATLOC_PLUGINS=examples/plugins/flow.py gsplatloc localize -m OUT --stages flow --flow.corners 500
"""

import time
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from gsplatloc import PoseEstimate, render
from gsplatloc.localization.pose.pnp import estimate_pose
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine import REFINERS, Refiner, StageContext
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils import se3


@dataclass(frozen=True)
class FlowOptions:
    """Every field becomes a flag of the command line, --flow.FIELD, with its comment as the help text."""

    corners: int = 1000  # maximum number of corners followed
    min_alpha: float = 0.9  # minimum alpha of a rendered pixel; below it the map shows no surface


class FlowRefiner:
    """`Refiner` by optical flow between a rendering and the query image."""

    name = "flow"
    verifies = False

    def __init__(self, options: FlowOptions):
        self.options = options

    @torch.no_grad()
    def refine(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate:
        start = time.perf_counter()
        refined = self._refined(query, splat_map, initial) if initial.ok else None
        result = replace(initial, accepted=False) if refined is None else refined
        return replace(result, elapsed_ms=1000 * (time.perf_counter() - start))

    def _refined(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate | None:
        """The pose from matches with a rendering; None where these do not prove a better one."""
        pixels, points = self._matches(query, splat_map, initial.pose())
        found = estimate_pose(pixels, points, query.camera)  # RANSAC, the a-contrario test, the covariance
        if not found.ok or _expected_error(found) > _expected_error(initial):
            return None
        return replace(found, distortion=initial.distortion)

    def _matches(self, query: Query, splat_map: SplatMap, pose: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Pixels [M, 2] of the query image and the world points [M, 3] that they show."""
        shown = render(splat_map.gaussians, query.camera, pose)
        rendered = cv2.cvtColor(_to_image(shown.rgb), cv2.COLOR_RGB2GRAY)
        photo = cv2.cvtColor(query.image, cv2.COLOR_RGB2GRAY)
        opaque = (shown.alpha > self.options.min_alpha).byte().cpu().numpy()
        corners = cv2.goodFeaturesToTrack(rendered, self.options.corners, 0.01, 6, mask=opaque)
        if corners is None:
            return np.zeros((0, 2)), np.zeros((0, 3))
        moved, found, _ = cv2.calcOpticalFlowPyrLK(rendered, photo, corners, None)
        kept = found[:, 0] == 1
        corners, moved = corners[kept, 0], moved[kept, 0]
        column, row = corners.round().astype(int).T
        depth = shown.depth.cpu()[row, column].double()
        # OpenCV counts from the centre of the first pixel, this library from its corner.
        local = query.camera.unproject(torch.from_numpy(corners).double() + 0.5, depth)
        world_from_cam = se3.inverse(pose)
        world = local @ world_from_cam[:3, :3].T + world_from_cam[:3, 3]
        return moved.astype(np.float64) + 0.5, world.numpy()


def _expected_error(estimate: PoseEstimate) -> float:
    """Metres, by the covariance; infinite where an estimate has none, as a pose of another estimator."""
    expected = estimate.expected_translation_m
    return float("inf") if expected is None else expected


def _to_image(rgb: Tensor) -> np.ndarray:
    """[3, H, W] in [0, 1] -> [H, W, 3] uint8."""
    return (255 * rgb.clamp(0, 1)).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()


@REFINERS.register("flow", FlowOptions, "optical flow between a rendering and the query image, PnP")
def make(options: FlowOptions, context: StageContext) -> Refiner:
    return FlowRefiner(options)
