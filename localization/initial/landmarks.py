"""The initial pose from matches between a query's keypoints and the map's landmarks.

The strongest keypoints are matched with the landmarks that were observed most often; RANSAC finds the pose
with the most inliers. If too few matches are inliers, more keypoints are matched with the landmarks of the
most likely clusters, then all keypoints with more of these. Guided matching then searches every landmark only
around its projection, and the pose is refined on all these matches.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from gsplatloc.localization.features import Extractor, Keypoints
from gsplatloc.localization.initial import InitialPose
from gsplatloc.localization.initial.members import LandmarkMatchingOptions
from gsplatloc.localization.landmarks.clusters import cluster_landmarks
from gsplatloc.localization.landmarks.file import FILE_NAME, Landmarks, load_landmarks
from gsplatloc.localization.landmarks.guided import guided_pairs, refine
from gsplatloc.localization.matching.nearest import Pairs, mutual_nearest
from gsplatloc.localization.pose.distortion import undistort_pixels
from gsplatloc.localization.pose.pnp import estimate_pose, refit_camera, with_uncertainty
from gsplatloc.localization.pose.reprojection import inlier_threshold_px, pixel_scale
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine import StageContext
from gsplatloc.localization.result import Matches, PoseEstimate, Status
from gsplatloc.utils.errors import GSplatLocError

_MIN_AGREEMENT = 0.5  # share of the first matches that must be inliers; below it there is a second pass ...
_SECOND_LANDMARKS = 16_384  # ... of all keypoints with this many landmarks
# RANSAC samples before the last pass, of which only a pose with that share of inliers is kept. 100 samples
# find such a pose; ten times as many allow for minimal samples of noisy inliers.
_EARLY_ITERATIONS = 1_000
# Around a projection, pixels of images up to 640 pixels long, more in proportion for larger ones: twice the
# error of an inlier of the first pose.
GUIDED_RADIUS_PX = 16.0
_GUIDED_ROUNDS = 6  # maximum number of times that an unknown camera is estimated from guided matches
_SAME_FOCAL = 0.003  # relative change of a focal length that is found again
_MIN_SIMILARITY = 0.7  # cosine between a keypoint and its landmark
_ALIKE = 0.85  # likewise, of matches that count as support: wrong ones are seldom more similar
_MIN_NEAR = 12  # matches around a pose that was found in another place
_CLUSTERED = 2  # clusters save time in maps of more than two shortlists


class LandmarkPose(InitialPose):
    """`InitialPose` by matching with landmarks."""

    name = "landmarks"

    def __init__(
        self,
        landmarks: Landmarks,
        options: LandmarkMatchingOptions | None = None,
        min_similarity: float = _MIN_SIMILARITY,
    ):
        """`min_similarity`: least cosine between a keypoint and its landmark."""
        self.landmarks = landmarks
        self.min_similarity = min_similarity
        self.options = options or LandmarkMatchingOptions()
        self._clusters = cluster_landmarks(landmarks) if self._exceeds(self.options.first_landmarks) else None

    def hypotheses(self, query: Query) -> list[PoseEstimate]:
        """One estimate; with the estimated focal length, and radial distortion, of an unknown camera."""
        start = time.perf_counter()
        estimate = self._matched(query)
        if estimate.ok:
            # Matches near the projections of a wrong focal length support it: until it does not change.
            for _ in range(1 if query.focal_known else _GUIDED_ROUNDS):
                focal, estimate = estimate.camera.fx, self.guided(estimate, query)
                if abs(math.log(estimate.camera.fx / focal)) < _SAME_FOCAL:
                    break
        if estimate.ok and estimate.information is None:  # no guided matches were found
            estimate = with_uncertainty(estimate)
        return [replace(estimate, elapsed_ms=1000 * (time.perf_counter() - start))]

    def near(self, estimate: PoseEstimate, query: Query) -> PoseEstimate:
        """`estimate` refined on matches with the landmarks around it; a failure if there are too few."""
        start = time.perf_counter()
        found = self.guided(replace(estimate, inliers=_MIN_NEAR, matches=None, accepted=True), query)
        if found.matches is None or found.inliers < _MIN_NEAR:
            found = PoseEstimate(Status.TOO_FEW_MATCHES, estimate.camera)
        elapsed_ms = estimate.elapsed_ms + 1000 * (time.perf_counter() - start)
        return replace(found, elapsed_ms=elapsed_ms)

    def support(self, keypoints: Keypoints) -> float:
        """How well an image's keypoints match the map, without a pose: comparable for turns of one image.

        The sum over the strongest keypoints' matches of the cosine above 0.85. Of 8 held-out views of an
        office, each in three other turns, the upright one always had most matches above that, 2.6 times as
        many as the next (median), and 11 times as many above 0.9.
        """
        landmarks = self.landmarks.descriptors if self._clusters is None else self._clusters.descriptors
        strongest = keypoints.descriptors[: self.options.first_keypoints]
        return (mutual_nearest(strongest, landmarks).similarity - _ALIKE).clamp(min=0).sum().item()

    def _matched(self, query: Query) -> PoseEstimate:
        """The pose of the first matching pass of which enough matches are inliers; else of the last.

        In held-out views near mapping views 60 % of the matches are inliers, and more matches change nothing.
        In views far from them few are, and a wrong pose may have more inliers than the right one.
        """
        estimate, pnp = PoseEstimate(Status.TOO_FEW_MATCHES, query.camera), self.options.pnp
        early = replace(pnp, max_iterations=min(pnp.max_iterations, _EARLY_ITERATIONS))
        for matches, last in self._passes(query):
            estimate = estimate_pose(
                matches.pixels,
                matches.points,
                query.camera,
                pnp if last else early,
                query.focal_known,
                query.focal_sigma,
                uncertain=False,
            )
            if estimate.ok and estimate.inliers >= _MIN_AGREEMENT * len(matches):
                break
        return estimate

    def _passes(self, query: Query) -> Iterator[tuple[Matches, bool]]:
        """Matches of more and more keypoints with more and more landmarks, and whether they are the last.

        The candidates, with which the clusters are found, are matched anyway. Where they suffice for the
        first pose, guided matching ends at the same pose as after the larger pass. A camera is not estimated
        from so few matches.
        """
        options, keypoints, scores = self.options, query.keypoints, None
        if self._clusters is not None and len(keypoints):
            pairs = self._clusters.pairs(keypoints.descriptors)
            scores = self._clusters.scores(pairs)
            if query.focal_known:
                similar = pairs.at_least(self.min_similarity)
                yield _matches(keypoints, self.landmarks.positions[self._clusters.candidates], similar), False
        sizes = (options.first_keypoints, options.first_landmarks), (len(keypoints), _SECOND_LANDMARKS)
        for number, (keypoint_count, landmark_count) in enumerate(sizes, 1):
            index = self._shortlist(scores, landmark_count)
            everything = isinstance(index, slice) and keypoint_count >= len(keypoints)
            last = everything or number == len(sizes)
            yield self._matches(keypoints.select(slice(0, keypoint_count)), index), last
            if last:
                break

    def _shortlist(self, scores: Tensor | None, count: int) -> Tensor | slice:
        """Indices of about `count` landmarks of the best clusters; all landmarks in a small map."""
        if self._clusters is None or scores is None or not self._exceeds(count):
            return slice(None)
        return self._clusters.shortlist(scores, count)

    def _exceeds(self, count: int) -> bool:
        """True if shortlisting `count` landmarks costs less than matching the whole map."""
        return len(self.landmarks) > _CLUSTERED * count

    def _matches(self, keypoints: Keypoints, index: Tensor | slice) -> Matches:
        """Keypoints and landmarks at `index` that are each other's nearest."""
        descriptors, positions = self.landmarks.descriptors[index], self.landmarks.positions[index]
        pairs = mutual_nearest(keypoints.descriptors, descriptors, self.min_similarity)
        return _matches(keypoints, positions, pairs)

    def guided(self, first: PoseEstimate, query: Query) -> PoseEstimate:
        """`first` refined on guided matches of all keypoints; `first` itself if these are fewer."""
        keypoints = undistorted = query.keypoints
        if first.distortion != 0:
            xy = undistort_pixels(keypoints.xy.cpu().numpy(), first.camera, first.distortion)
            undistorted = replace(keypoints, xy=torch.from_numpy(xy).to(keypoints.xy))
        radius = GUIDED_RADIUS_PX * pixel_scale(first.camera)
        pairs = guided_pairs(first, undistorted, self.landmarks, radius, self.min_similarity)
        if len(pairs) < first.inliers:
            return first
        matches = _matches(keypoints, self.landmarks.positions, pairs)
        if query.focal_known:
            return refine(first, matches, inlier_threshold_px(first.camera))
        second = refit_camera(first, matches.pixels, matches.points, query.camera, query.focal_sigma)
        return second if second.ok else first


def _matches(keypoints: Keypoints, positions: Tensor, pairs: Pairs) -> Matches:
    pixels = keypoints.xy[pairs.index_a].double().cpu().numpy()
    points = positions[pairs.index_b].double().cpu().numpy()
    return Matches(pixels, points, np.zeros(len(pixels), bool))


def check_extractor(landmarks: Landmarks, extractor: Extractor) -> None:
    """Raise `GSplatLocError` if landmarks are of another extractor, or of another version of it."""
    if landmarks.extractor != extractor.version:
        raise GSplatLocError(
            f"expected landmarks of {extractor.version}, found {landmarks.extractor}: map the scene again"
        )


def make(options: LandmarkMatchingOptions, context: StageContext) -> InitialPose:
    landmarks = load_landmarks(context.splat_map.file(FILE_NAME)).to(context.splat_map.device)
    check_extractor(landmarks, context.extractor)
    return LandmarkPose(landmarks, options)
