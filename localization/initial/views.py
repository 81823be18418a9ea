"""The initial pose of a sparse pipeline: retrieval, matches with the landmarks of each view found, RANSAC.

As hloc does (Sarlin et al., "From Coarse to Fine", CVPR 2019), with the map's own landmarks and with the
views that have most of them in common with the query. `landmarks` is more accurate and faster; this one is
for comparison.
"""

import time
from dataclasses import replace

import torch

from gsplatloc.localization.initial import InitialPose
from gsplatloc.localization.initial.landmarks import check_extractor
from gsplatloc.localization.initial.members import ViewMatchingOptions
from gsplatloc.localization.landmarks.covisible import MIN_SIMILARITY, CovisibleViews
from gsplatloc.localization.landmarks.file import FILE_NAME, load_landmarks
from gsplatloc.localization.matching.nearest import mutual_nearest
from gsplatloc.localization.pose.pnp import estimate_pose
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine import StageContext
from gsplatloc.localization.result import PoseEstimate


class ViewsPose(InitialPose):
    """`InitialPose` by matching with the landmarks of single views."""

    name = "views"

    def __init__(self, views: CovisibleViews, options: ViewMatchingOptions | None = None):
        self._views = views
        self.options = options or ViewMatchingOptions()

    def hypotheses(self, query: Query) -> list[PoseEstimate]:
        """One estimate, of the matches with all retrieved views together."""
        start = time.perf_counter()
        landmarks, keypoints = self._views.landmarks, query.keypoints
        found = [torch.zeros(0, 2, dtype=torch.int64, device=landmarks.positions.device)]
        for number in self._views.best(keypoints, self.options.views):
            seen = self._views.seen[number]
            pairs = mutual_nearest(keypoints.descriptors, landmarks.descriptors[seen], MIN_SIMILARITY)
            found.append(torch.stack([pairs.index_a, seen[pairs.index_b]], 1))
        index_a, index_b = torch.cat(found).unique(dim=0).T  # a match is found in many views
        pixels = keypoints.xy[index_a].double().cpu().numpy()
        points = landmarks.positions[index_b].double().cpu().numpy()
        estimate = estimate_pose(
            pixels, points, query.camera, self.options.pnp, query.focal_known, query.focal_sigma
        )
        return [replace(estimate, elapsed_ms=1000 * (time.perf_counter() - start))]


def make(options: ViewMatchingOptions, context: StageContext) -> InitialPose:
    landmarks = load_landmarks(context.splat_map.file(FILE_NAME)).to(context.splat_map.device)
    check_extractor(landmarks, context.extractor)
    return ViewsPose(CovisibleViews(landmarks, context.splat_map.views), options)
