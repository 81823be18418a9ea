"""Clusters of landmarks, so that the time of a query does not grow with the map.

Landmarks are divided into clusters of equal size by where they are and where they were seen from, so that an
image sees the landmarks of few clusters. The strongest keypoints of a query are matched with the candidate
landmarks of all clusters: those that were observed most often, which are the most likely to be found again.
Only landmarks of the clusters with the highest scores are matched with all keypoints.

Retrieval by a pooled descriptor per image would need images or renderings to pool, and local descriptors pool
to nearly the same vector everywhere. Candidate landmarks are in the map anyway.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.localization.landmarks.file import Landmarks
from gsplatloc.localization.matching.nearest import Pairs, mutual_nearest

_MAX_SIZE = 2_048  # landmarks of a cluster: about as many as one image sees
_CANDIDATE_STRIDE = 8  # one landmark in eight is a candidate
_KEYPOINTS = 256  # of a query that are matched with candidates, the strongest; 512 change nothing


@dataclass(frozen=True)
class LandmarkClusters:
    """A map's landmarks in C clusters, with K candidate landmarks."""

    members: tuple[Tensor, ...]  # indices [<= _MAX_SIZE] into the landmarks, of each cluster
    candidates: Tensor  # [K] indices into the landmarks
    candidate_cluster: Tensor  # [K] cluster of each candidate
    descriptors: Tensor  # [K, D] of the candidates

    def pairs(self, descriptors: Tensor) -> Pairs:
        """Matches of the strongest of an image's keypoint `descriptors` [N, D] with the candidates."""
        return mutual_nearest(descriptors[:_KEYPOINTS], self.descriptors)

    def scores(self, pairs: Pairs) -> Tensor:
        """Scores [C] of the clusters for an image with these matches.

        The score of a cluster is the sum over its matches of the cosine above the median cosine of all
        matches: matches that are more similar are more likely to be correct.
        """
        weight = (pairs.similarity - pairs.similarity.median()).clamp(min=0)
        cluster = self.candidate_cluster[pairs.index_b]
        return weight.new_zeros(len(self.members)).index_add_(0, cluster, weight)

    def shortlist(self, scores: Tensor, count: int) -> Tensor:
        """Ascending indices of at least `count` landmarks, of the clusters with the highest `scores` [C]."""
        chosen, found = [], 0
        for cluster in scores.argsort(descending=True, stable=True).tolist():
            if found >= count:
                break
            chosen.append(self.members[cluster])
            found += len(self.members[cluster])
        return torch.cat(chosen).sort().values


def cluster_landmarks(landmarks: Landmarks) -> LandmarkClusters:
    """The clusters of a map: halved at the median of their widest coordinate until they are small enough."""
    members = _halve(viewpoints(landmarks), torch.arange(len(landmarks), device=landmarks.positions.device))
    # Landmarks are sorted by how often they were observed, and so are the members of every cluster.
    candidates = [part.sort().values[: max(1, len(part) // _CANDIDATE_STRIDE)] for part in members]
    numbers = [torch.full_like(part, number) for number, part in enumerate(candidates)]
    index = torch.cat(candidates)
    return LandmarkClusters(tuple(members), index, torch.cat(numbers), landmarks.descriptors[index])


def viewpoints(landmarks: Landmarks) -> Tensor:
    """Position of each landmark and of its mean viewpoint [M, 6]; an unknown distance counts as zero."""
    distance = landmarks.distances.mean(1, keepdim=True)
    distance = torch.where(distance.isfinite(), distance, torch.zeros_like(distance))
    seen_from = landmarks.positions + distance * F.normalize(landmarks.directions, dim=1)
    return torch.cat([landmarks.positions, seen_from], 1)


def _halve(coordinates: Tensor, index: Tensor) -> list[Tensor]:
    if len(index) <= _MAX_SIZE:
        return [index]
    own = coordinates[index]
    axis = int(own.std(0).argmax())
    order = own[:, axis].argsort(stable=True)
    middle = len(index) // 2
    return _halve(coordinates, index[order[:middle]]) + _halve(coordinates, index[order[middle:]])
