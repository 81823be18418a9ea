"""The initial pose in a splat that has no descriptors: a network predicts them from the Gaussians alone.

After GSVisLoc (ICCVW 2025), which matches the features of a point encoder with those of an image encoder.
Here the image encoder is XFeat, unchanged, and the network predicts the descriptors that XFeat would give to
what is around a Gaussian (`localization.splat_descriptors`). The predicted landmarks are then matched as any
map's are; they are kept in the map's folder.
"""

import sys
import time
from contextlib import suppress
from dataclasses import replace

import numpy as np

from gsplatloc.localization.initial import InitialPose
from gsplatloc.localization.initial.landmarks import GUIDED_RADIUS_PX, LandmarkPose
from gsplatloc.localization.initial.members import GSVisLocOptions, LandmarkMatchingOptions
from gsplatloc.localization.initial.view_index import index_key
from gsplatloc.localization.landmarks.file import Landmarks, load_landmarks, save_landmarks
from gsplatloc.localization.matching.nearest import mutual_nearest
from gsplatloc.localization.pose.false_alarms import log10_tail
from gsplatloc.localization.pose.pnp import ransac_pose
from gsplatloc.localization.pose.reprojection import inlier_threshold_px, pixel_scale
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine import StageContext
from gsplatloc.localization.result import Matches, PoseEstimate
from gsplatloc.localization.splat_descriptors.describe import DescribeOptions, describe_splat
from gsplatloc.localization.splat_descriptors.network import WEIGHTS, load_encoder, weights_key
from gsplatloc.scene.map_config import CAMERAS_NAME
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import expanded

FILE_NAME = "splat_landmarks.safetensors"
_SHARES = (1.0, 0.5, 0.25)  # of the first matches, the most alike, that RANSAC searches in turn
# Logarithm of the chance that so many guided matches of a wrong pose are inliers. On held-out views of an
# office it was at most -7.8 for right poses, and at least -0.5 for wrong ones.
_MOST_CHANCE = -6.0
_MIN_SIMILARITY = 0.4  # cosine of a predicted descriptor and a keypoint's; chosen on held-out views


class GSVisLocPose(InitialPose):
    """`InitialPose` by matching with predicted landmarks.

    Few of the first matches are right (6 % in a place that the network has not seen), often too few to prove
    a pose by themselves. Poses that RANSAC finds among all of them, and among those most alike, are therefore
    tried by guided matching. Around a wrong pose, matches lie anywhere within the radius, so that a quarter
    of them are inliers (the ratio of the areas).
    """

    name = "gsvisloc"
    predicts = True

    def __init__(self, landmarks: Landmarks, options: GSVisLocOptions | None = None):
        options = options or GSVisLocOptions()
        self.landmarks, self.options = landmarks, options
        matching = LandmarkMatchingOptions(options.keypoints, max(1, len(landmarks)), options.pnp)
        self._pose = LandmarkPose(landmarks, matching, _MIN_SIMILARITY)

    def hypotheses(self, query: Query) -> list[PoseEstimate]:
        """One estimate, as of `LandmarkPose`."""
        start = time.perf_counter()
        query = replace(query, keypoints=query.keypoints.select(slice(0, self.options.keypoints)))
        (estimate,) = self._pose.hypotheses(query)
        if not estimate.ok and query.focal_known:
            estimate = self._tried(query) or estimate
        return [replace(estimate, elapsed_ms=1000 * (time.perf_counter() - start))]

    def _tried(self, query: Query) -> PoseEstimate | None:
        """Of the poses that RANSAC finds, the one that guided matching proves best, if it proves one."""
        keypoints = query.keypoints
        pairs = mutual_nearest(keypoints.descriptors, self.landmarks.descriptors, _MIN_SIMILARITY)
        order = pairs.similarity.argsort(descending=True, stable=True)
        pixels = keypoints.xy[pairs.index_a[order]].double().cpu().numpy()
        points = self.landmarks.positions[pairs.index_b[order]].double().cpu().numpy()
        best, least = None, _MOST_CHANCE
        for share in _SHARES:
            count = round(share * len(order))
            matches = Matches(pixels[:count], points[:count], np.zeros(count, bool))
            first = ransac_pose(matches, query.camera, self.options.pnp)
            found = None if first is None else self._pose.guided(first, query)
            if found is None or found is first or found.matches is None:
                continue
            radius = GUIDED_RADIUS_PX * pixel_scale(query.camera)
            chance = min(1.0, (inlier_threshold_px(query.camera) / radius) ** 2)
            if (log10 := log10_tail(len(found.matches), found.inliers, chance)) < least:
                best, least = found, log10
        return best


def make(options: GSVisLocOptions, context: StageContext) -> InitialPose:
    return GSVisLocPose(_cached_landmarks(options, context), options)


def _cached_landmarks(options: GSVisLocOptions, context: StageContext) -> Landmarks:
    """The landmarks in the map's folder; predicted and saved there if they are missing or of other inputs.

    Where the file cannot be written, they are predicted for every process anew.
    """
    splat_map, extractor = context.splat_map, context.extractor
    weights = expanded(options.weights) if options.weights else WEIGHTS
    encoder = load_encoder(weights, extractor.version)
    views = splat_map.views[:: -(-len(splat_map.views) // options.views) or 1]
    if not views:
        raise GSplatLocError(
            f"expected views in {splat_map.file(CAMERAS_NAME)}, found none: run gsplatloc from-splat"
        )
    settings = DescribeOptions(options.tried, options.kept, options.min_opacity)
    key = index_key(splat_map.gaussians, views, weights_key(weights), settings)
    path = splat_map.file(FILE_NAME)
    if path.is_file():
        with suppress(GSplatLocError):  # damaged: predicted anew
            if (found := load_landmarks(path)).extractor == key:
                return found.to(splat_map.device)
    landmarks = describe_splat(splat_map.gaussians, views, encoder.to(splat_map.device), settings)
    landmarks = replace(landmarks, extractor=key)
    try:
        save_landmarks(landmarks, path)
    except GSplatLocError as error:
        log(f"gsvisloc describes this splat in every run: {error}", stream=sys.stderr)
    return landmarks
