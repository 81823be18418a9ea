"""An index of all mapping views of a map in tiles, by which the tiles that a query may show are found.

The views are described by their images, while they are mapped: VLAD of the dense descriptors, as in
`initial.view_index`, projected to its principal components. A view takes 2 x 256 + 130 bytes.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.localization.initial.view_index import pool
from gsplatloc.utils import se3
from gsplatloc.utils.tensors import stored_tensors, write_tensors

FILE_NAME = "tiles.safetensors"
_FORMAT = "gsplatloc-places-1"


@dataclass(frozen=True)
class PlaceWords:
    """How images are described."""

    words: Tensor  # [K, D] of the vocabulary, unit vectors
    mean: Tensor  # [K D] float32, of the pooled descriptors
    projection: Tensor  # [K D, P] float32, to the principal components

    def describe(self, dense: Tensor) -> Tensor:
        """The unit vector [P] of an image with the dense map [D, h, w]."""
        pooled = pool(dense.float(), self.words.to(dense.device))
        return F.normalize((pooled - self.mean.to(pooled)) @ self.projection.to(pooled), dim=0)


@dataclass(frozen=True)
class PlaceIndex:
    """V mapping views."""

    words: PlaceWords
    descriptors: Tensor  # [V, P] float32, unit vectors
    poses: Tensor  # [V, 4, 4] float64, cam_from_world, in world coordinates
    tiles: Tensor  # [V] int64, number of the tile in whose core the view is

    @property
    def centers(self) -> Tensor:
        """The camera centres [V, 3] float64."""
        return se3.camera_center(self.poses)

    def nearest(self, dense: Tensor, count: int) -> Tensor:
        """Indices [k] of the views most similar to an image with the dense map [D, h, w], best first."""
        similarity = self.descriptors @ self.words.describe(dense).to(self.descriptors)
        return similarity.topk(min(count, len(self.descriptors))).indices

    def around(self, cam_from_world: Tensor, count: int) -> Tensor:
        """Indices [k] of the views nearest to a pose [4, 4], those that look most the same way first."""
        pose = cam_from_world.to(self.poses)
        distance = (self.centers - se3.camera_center(pose)).norm(dim=1)
        near = distance.topk(min(count, len(distance)), largest=False).indices
        same_way = self.poses[near, 2, :3] @ pose[2, :3]
        return near[same_way.argsort(descending=True, stable=True)]


def save_places(index: PlaceIndex, path: Path | str) -> None:
    """Write an index as safetensors, atomically; descriptors in half precision."""
    tensors = {
        "words": index.words.words,
        "mean": index.words.mean,
        "projection": index.words.projection.half(),
        "descriptors": index.descriptors.half(),
        "poses": index.poses,
        "tiles": index.tiles.to(torch.int32),
    }
    write_tensors(path, tensors, {"format": _FORMAT})


def load_places(path: Path | str, tiles: int) -> PlaceIndex:
    """Read a file of `save_places`; raises `GSplatLocError` if it is not one of a map with so many tiles."""
    with stored_tensors(path, "an index of views", "map the scene again", _FORMAT) as (tensors, _):
        words = PlaceWords(tensors["words"], tensors["mean"], tensors["projection"].float())
        descriptors = F.normalize(tensors["descriptors"].float(), dim=1)
        index = PlaceIndex(words, descriptors, tensors["poses"], tensors["tiles"].long())
        _check(index, tiles)
    return index


def _check(index: PlaceIndex, tiles: int) -> None:
    """Raise ValueError if tensors do not fit together, or are not finite."""
    (count, size), (words, channels) = index.descriptors.shape, index.words.words.shape
    found = {
        "mean": (index.words.mean, (words * channels,)),
        "projection": (index.words.projection, (words * channels, size)),
        "poses": (index.poses, (count, 4, 4)),
        "tiles": (index.tiles, (count,)),
        "descriptors": (index.descriptors, (count, size)),
    }
    for name, (tensor, shape) in found.items():
        if tensor.shape != shape or not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} of shape {tuple(tensor.shape)}, or not finite")
    if count == 0 or not bool(((index.tiles >= 0) & (index.tiles < tiles)).all()):
        raise ValueError(f"views of other tiles than {tiles}")
