"""Which part of a large map an image may show, so that a query's cost does not grow with the map.

Landmarks are divided into places of equal size: those seen from the same spot in the same direction stay
together, as an image sees them together. A few keypoints vote for places with the landmarks of each that were
observed most often, and are found again most easily; only landmarks of the winners are matched.

A pooled descriptor per image, the usual way, needs training images or renderings to pool, and XFeat's 64
channels pool to nearly the same vector everywhere. Votes use the landmarks that are there anyway.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.localization.landmarks.file import Landmarks
from gsplatloc.localization.matching.nearest import mutual_nearest

_PLACE_SIZE = 2_048  # landmarks at most: about what one image sees
_VOTERS = 8  # one landmark of a place in so many is voted with
_VOTES = 256  # keypoints that vote, the strongest; 512 change nothing


@dataclass(frozen=True)
class Places:
    """A map divided into places."""

    members: tuple[Tensor, ...]  # indices [<= _PLACE_SIZE] into the landmarks, of each place
    voters: Tensor  # [V] indices into the landmarks
    voters_place: Tensor  # [V] place of each voter
    descriptors: Tensor  # [V, 64] of the voters

    def votes(self, descriptors: Tensor) -> Tensor:
        """Votes [P] for the places, by an image's `descriptors` [N, 64], strongest first.

        A vote counts the more, the closer the match is to certain: its weight is what of the cosine exceeds
        the median of all votes.
        """
        pairs = mutual_nearest(descriptors[:_VOTES], self.descriptors)
        weight = (pairs.similarity - pairs.similarity.median()).clamp(min=0)
        return weight.new_zeros(len(self.members)).index_add_(0, self.voters_place[pairs.index_b], weight)

    def shortlist(self, votes: Tensor, count: int) -> Tensor:
        """Ascending indices of at least `count` landmarks, of the places with most of `votes` [P]."""
        chosen, found = [], 0
        for place in votes.argsort(descending=True, stable=True).tolist():
            if found >= count:
                break
            chosen.append(self.members[place])
            found += len(self.members[place])
        return torch.cat(chosen).sort().values


def divide(landmarks: Landmarks) -> Places:
    """The places of a map: halved at the median of their widest coordinate until they are small enough."""
    members = _halve(viewpoints(landmarks), torch.arange(len(landmarks), device=landmarks.positions.device))
    # Landmarks are sorted by how often they were observed, and so are the members of every place.
    voters = [part.sort().values[: max(1, len(part) // _VOTERS)] for part in members]
    numbers = [torch.full_like(part, number) for number, part in enumerate(voters)]
    index = torch.cat(voters)
    return Places(tuple(members), index, torch.cat(numbers), landmarks.descriptors[index])


def viewpoints(landmarks: Landmarks) -> Tensor:
    """Where a landmark is and where it was seen from [M, 6]; a distance that is not known counts as none."""
    distance = landmarks.distances.mean(1, keepdim=True)
    distance = torch.where(distance.isfinite(), distance, torch.zeros_like(distance))
    seen_from = landmarks.positions + distance * F.normalize(landmarks.directions, dim=1)
    return torch.cat([landmarks.positions, seen_from], 1)


def _halve(coordinates: Tensor, index: Tensor) -> list[Tensor]:
    if len(index) <= _PLACE_SIZE:
        return [index]
    own = coordinates[index]
    axis = int(own.std(0).argmax())
    order = own[:, axis].argsort(stable=True)
    middle = len(index) // 2
    return _halve(coordinates, index[order[:middle]]) + _halve(coordinates, index[order[middle:]])
