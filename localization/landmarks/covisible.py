"""Retrieval by landmarks: the map's views that see those landmarks that a query's keypoints are most like.

In an image far from all mapping views, so few matches are right that RANSAC finds no pose, and the image as a
whole resembles other places more than its own. The right matches all lie in the views of its place, wrong
ones lie anywhere. As in retrieval by visual words (Sivic & Zisserman, "Video Google", ICCV 2003), a landmark
that fewer views see counts more, and a view that sees many landmarks is at no advantage.

On 14 held-out images of an office that were not verified before, a view within 0.6 m and 25 degrees was among
the three best for 10; among the three best by pooled descriptors for 5.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gsplatloc.localization.features import DEFAULT_EXTRACTOR, Keypoints
from gsplatloc.localization.landmarks.file import Landmarks
from gsplatloc.localization.landmarks.guided import visible
from gsplatloc.localization.matching.nearest import mutual_nearest
from gsplatloc.localization.queries import Query
from gsplatloc.localization.result import PoseEstimate, Status
from gsplatloc.scene.cameras import PosedCamera

_KEYPOINTS = 1_024  # of a query that are matched, the strongest
MIN_SIMILARITY = 0.82  # cosine from which a match counts, by what it exceeds it
# Score of the best view below which an image shows another place. Images that are found, of a drone flight
# (as they are, cropped, shrunk, blurred, dark, occluded) and of an office, have at least 0.12 and 0.28.
# Images of other places have up to 0.05 and 0.32. The scale is that of XFeat's cosines, of maps with many
# views (a landmark that most views see hardly counts) and of 1,024 keypoints: elsewhere the score says less.
MIN_COMMON = 0.06
_MANY_VIEWS = 50
_FEW = 100  # landmarks: a view that sees hardly any is not preferred for a single match


class AnotherPlace(Exception):
    """The query shows a place that is not in the map: further hypotheses would be in vain."""


class CovisibleViews:
    """The mapping views of a map, ranked by the landmarks that they have in common with a query."""

    name = "covisible"

    def __init__(self, landmarks: Landmarks, views: Sequence[PosedCamera], kept: int = 3):
        """`kept` of the views are returned as hypotheses, those with the highest scores.

        `seen` has the indices of the landmarks that each view sees.
        """
        self.landmarks, self._views, self._kept = landmarks, tuple(views), kept
        self.seen = [visible(landmarks, view.cam_from_world, view.camera, 0.0) for view in self._views]
        counts = torch.zeros(len(landmarks), device=landmarks.positions.device)
        for index in self.seen:
            counts[index] += 1
        self._rarity = (len(self._views) / counts.clamp(min=1)).log().square()  # of view and query, each once

    def hypotheses(self, query: Query) -> list[PoseEstimate]:
        """The poses of the best views, which no matches support yet: without covariance, not accepted.

        There is none where no view has enough in common with the query. Raises `AnotherPlace` if that shows
        another place: it is known of many views, of XFeat's descriptors and of enough keypoints only.
        """
        start = time.perf_counter()
        scores = self.scores(query.keypoints)
        if not (scores > MIN_COMMON).any():
            measured = (
                len(self._views) >= _MANY_VIEWS
                and self.landmarks.extractor.partition("-")[0] == DEFAULT_EXTRACTOR  # XFeat
                and len(query.keypoints) >= _KEYPOINTS
            )
            if measured:
                raise AnotherPlace
            return []
        best = _best(scores, self._kept)
        elapsed_ms = 1000 * (time.perf_counter() - start)
        estimate = PoseEstimate(Status.OK, query.camera, accepted=False, elapsed_ms=elapsed_ms)
        poses = [self._views[number].cam_from_world.double().cpu() for number in best]
        return [replace(estimate, cam_from_world=pose) for pose in poses]

    def best(self, keypoints: Keypoints, count: int) -> list[int]:
        """Up to `count` views with the highest scores, best first, of those with a common landmark."""
        return _best(self.scores(keypoints), count)

    def scores(self, keypoints: Keypoints) -> Tensor:
        """Scores [V] of the views for an image with these keypoints."""
        pairs = mutual_nearest(keypoints.descriptors[:_KEYPOINTS], self.landmarks.descriptors)
        weights = torch.zeros_like(self._rarity)
        weights[pairs.index_b] = (pairs.similarity - MIN_SIMILARITY).clamp(min=0)
        weights = weights * self._rarity
        sums = [weights[index].sum() / (len(index) + _FEW) ** 0.5 for index in self.seen]
        return torch.stack(sums).cpu() if sums else torch.zeros(0)


def _best(scores: Tensor, count: int) -> list[int]:
    order = scores.argsort(descending=True, stable=True)[:count].tolist()
    return [number for number in order if scores[number] > 0]
