"""Places of a map that look alike.

Rooms with the same furniture have hundreds of landmarks in common, so that an image of one has a pose in
every one. When a map in tiles is made, the landmarks of its tiles are compared: rigid motions that move many
landmarks onto similar ones lead from a tile to its rivals. At a pose in a tile, a rival is plausible if it
has nearly as many counterparts of the landmarks in view as the one that has most.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gsplatloc.localization.landmarks.file import Landmarks
from gsplatloc.localization.landmarks.guided import visible
from gsplatloc.localization.result import PoseEstimate
from gsplatloc.utils import se3
from gsplatloc.utils.distances import exact_distances
from gsplatloc.utils.tensors import stored_tensors, write_tensors

FILE_NAME = "alike.safetensors"
_FORMAT = "gsplatloc-alike-1"
# Of the landmarks in view, a room of the same furniture had counterparts of 0.52 to 0.71, and rooms of other
# furniture 0.8 times as many or fewer (buildings of seed 2).
_LEAST_SHARE, _NEARLY = 0.2, 0.8
_SAME_WAY = 0.9  # cosine between viewing directions


@dataclass(frozen=True)
class AlikePlaces:
    """The R rivals of a tile with M landmarks."""

    tiles: Tensor  # [R] int64, numbers of the rivals' tiles
    motions: Tensor  # [R, 4, 4] float64, x_rival = motion x, in world coordinates
    shared: Tensor  # [R, M] bool: landmarks with a similar one beside them in the rival
    key: str = ""  # hash of all that was compared

    def __len__(self) -> int:
        return len(self.tiles)

    def plausible(self, estimate: PoseEstimate, landmarks: Landmarks) -> list[int]:
        """The rivals that an image may show as well, the one with most counterparts first.

        `estimate` is a pose in the tile, whose `landmarks` these are, in the coordinates of its map.
        """
        share = self._share_in_view(estimate, landmarks)
        order = share.argsort(descending=True, stable=True)
        return [int(number) for number in order if share[number] >= _least(share)]

    def of_other_kinds(self, estimate: PoseEstimate, landmarks: Landmarks, matched: Tensor) -> list[int]:
        """The rivals that have fewer counterparts than the plausible ones: rooms of other furniture.

        First those with counterparts of most of the landmarks `matched` [K], which an image's keypoints match
        at the pose: an image of such a room matches what both rooms have.
        """
        share = self._share_in_view(estimate, landmarks)
        if not len(share) or not len(matched):
            return []
        order = self.shared[:, matched].float().mean(1).argsort(descending=True, stable=True)
        return [int(number) for number in order if share[number] < _least(share)]

    def _share_in_view(self, estimate: PoseEstimate, landmarks: Landmarks) -> Tensor:
        """The share [R] of the landmarks in view that have counterparts in a rival; [0] if none is seen."""
        index = visible(landmarks, estimate.pose(), estimate.camera, 0.0).cpu()
        return self.shared[:, index].float().mean(1) if len(index) and len(self) else torch.zeros(0)

    def corresponding(self, cam_from_world: Tensor) -> Tensor:
        """The poses [R, 4, 4] in the rivals that correspond to one in the tile, in world coordinates."""
        return cam_from_world.double() @ se3.inverse(self.motions)


def _least(share: Tensor) -> float:
    """The least share of counterparts of a plausible rival."""
    return max(_LEAST_SHARE, _NEARLY * float(share.max())) if len(share) else _LEAST_SHARE


def same_places(a: Tensor, b: Tensor, apart: float) -> Tensor:
    """Which poses a [R, 4, 4] and b [K, 4, 4] are nearer than `apart` and look the same way: [R, K] bool."""
    near = exact_distances(se3.camera_center(a), se3.camera_center(b)) < apart
    return near & (a[:, 2, :3] @ b[:, 2, :3].T > _SAME_WAY)


NONE_ALIKE = AlikePlaces(torch.zeros(0).long(), torch.zeros(0, 4, 4).double(), torch.zeros(0, 0).bool())


def joined(parts: Sequence[AlikePlaces]) -> AlikePlaces:
    """Rivals of one tile together."""
    tiles, motions, shared = zip(*((part.tiles, part.motions, part.shared) for part in parts))
    return AlikePlaces(torch.cat(tiles), torch.cat(motions), torch.cat(shared))


def viewing_distance(landmarks: Landmarks) -> float:
    """The median distance from which landmarks were seen, by which tolerances are measured."""
    distances = landmarks.distances.mean(1)
    known = distances[distances.isfinite()]
    return float(known.median()) if len(known) else 1.0


def save_alike(places: AlikePlaces, path: Path | str) -> None:
    """Write the rivals of a tile as safetensors, atomically: 136 bytes each, and a bit for every landmark."""
    bits = torch.from_numpy(np.packbits(places.shared.numpy(), axis=1))
    tensors = {"tiles": places.tiles, "motions": places.motions, "shared": bits}
    write_tensors(path, tensors, {"format": _FORMAT, "key": places.key})


def load_alike(path: Path | str, tiles: int, landmarks: int) -> AlikePlaces:
    """Read a file of `save_alike`, of a tile with so many landmarks in a map of so many tiles.

    `NONE_ALIKE` if there is no file.
    """
    path = Path(path)
    if not path.is_file():
        return NONE_ALIKE
    stored = stored_tensors(path, "places that look alike", "map the scene again", _FORMAT)
    with stored as (tensors, metadata):
        numbers, motions, bits = (tensors[name] for name in ("tiles", "motions", "shared"))
        _check(numbers, motions, bits, tiles, landmarks)
        shared = np.unpackbits(bits.numpy(), axis=1, count=landmarks)
        return AlikePlaces(numbers, motions, torch.from_numpy(shared).bool(), metadata["key"])


def _check(numbers: Tensor, motions: Tensor, bits: Tensor, tiles: int, landmarks: int) -> None:
    """Raise ValueError if tensors do not fit together, or are not of this map."""
    if numbers.ndim != 1 or numbers.dtype is not torch.int64 or motions.shape != (len(numbers), 4, 4):
        raise ValueError(f"{tuple(numbers.shape)} tiles, {tuple(motions.shape)} motions")
    if motions.dtype is not torch.float64 or not bool(motions.isfinite().all()):
        raise ValueError("motions that are not finite numbers in double precision")
    if not bool(((numbers >= 0) & (numbers < tiles)).all()):
        raise ValueError(f"rivals in other tiles than {tiles}")
    columns = (landmarks + 7) // 8 if len(numbers) else 0
    if bits.dtype is not torch.uint8 or bits.shape != (len(numbers), columns):
        raise ValueError(f"{tuple(bits.shape)} bytes of counterparts of {landmarks} landmarks")
