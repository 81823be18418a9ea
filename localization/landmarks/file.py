"""Landmarks: points of the map with descriptors for matching, a few MB that suffice for an initial pose."""

from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from gsplatloc.scene.map_folder import require_map
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.tensors import stored_tensors, write_tensors

FILE_NAME = "landmarks.safetensors"
_FORMAT = "gsplatloc-landmarks-2"
_OLDER_FORMAT = "gsplatloc-landmarks-1"
_LEVELS = 127  # value in the file of a descriptor's largest component


@dataclass(frozen=True)
class Landmarks:
    """M landmarks, the most often observed first."""

    positions: Tensor  # [M, 3] float32, world
    descriptors: Tensor  # [M, D] float32, L2-normalised (8 bits per component in the file)
    directions: Tensor  # [M, 3] float32, mean of the unit vectors towards the cameras that saw it
    distances: Tensor  # [M, 2] float32, of the nearest and the farthest of these cameras
    lengths: Tensor  # [M] int32, mapping views that saw it
    extractor: str  # `Extractor.version` of the descriptors: others cannot be compared with them
    # Standard deviations per axis of the mapping poses, units of the map and radians, and of the angle by
    # which the rays of a mapping view are off together, radians; zero = none, or unknown.
    pose_noise: tuple[float, float, float] = (0.0, 0.0, 0.0)
    # [M] float32, root of the sum of squared sines between the rays to the cameras and their mean
    spreads: Tensor | None = None

    def __len__(self) -> int:
        return self.positions.shape[0]

    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(part.nbytes for part in vars(self).values() if isinstance(part, Tensor))

    def to(self, device: torch.device | str) -> "Landmarks":
        return replace(
            self,
            positions=self.positions.to(device),
            descriptors=self.descriptors.to(device),
            directions=self.directions.to(device),
            distances=self.distances.to(device),
            lengths=self.lengths.to(device),
            spreads=None if self.spreads is None else self.spreads.to(device),
        )

    def select(self, index: Tensor | slice) -> "Landmarks":
        """The landmarks at `index` (indices, a mask or a slice)."""
        return Landmarks(
            self.positions[index],
            self.descriptors[index],
            self.directions[index],
            self.distances[index],
            self.lengths[index],
            self.extractor,
            self.pose_noise,
            None if self.spreads is None else self.spreads[index],
        )


def save_landmarks(landmarks: Landmarks, path: Path | str) -> None:
    """Write `landmarks` as safetensors, atomically: 26 + D bytes each, 90 with XFeat's descriptors.

    The components of a descriptor are rounded to 127 levels of the largest. No scale is stored, because
    descriptors have unit length.
    """
    largest = landmarks.descriptors.abs().amax(1, keepdim=True).clamp(min=1e-6)
    tensors = {
        "positions": landmarks.positions.float(),
        "descriptors": (landmarks.descriptors * (_LEVELS / largest)).round().to(torch.int8),
        "directions": landmarks.directions.half(),
        "distances": landmarks.distances.bfloat16(),  # the range of single precision, for scenes of any unit
        "lengths": landmarks.lengths.clamp(max=torch.iinfo(torch.int16).max).short(),
        "pose_noise": torch.tensor(landmarks.pose_noise),
    }
    if landmarks.spreads is not None:
        tensors["spreads"] = landmarks.spreads.half()
    write_tensors(path, tensors, {"format": _FORMAT, "extractor": landmarks.extractor})


def load_landmarks(path: Path | str) -> Landmarks:
    """Read a file of `save_landmarks`; raises `GSplatLocError` if it is missing or another file."""
    path = Path(path)
    if not path.is_file():
        require_map(path.parent)
        raise GSplatLocError(f"expected landmarks in {path}, found no file: run gsplatloc train")
    with _stored(path) as (tensors, metadata):
        if metadata["format"] == _OLDER_FORMAT:  # written before distances were kept
            count = len(tensors.get("lengths", torch.zeros(1)).flatten())
            tensors["distances"] = torch.tensor([0.0, torch.inf]).repeat(count, 1)
        return _made(tensors, metadata["extractor"])


def load_geometry(path: Path) -> Landmarks | None:
    """The landmarks of a file without their descriptors; None where it was written before `pose_noise`."""
    with _stored(path, without=("descriptors",)) as (tensors, _):
        if "pose_noise" not in tensors:
            return None
        count = len(tensors["lengths"].flatten())
        return _made(tensors | {"descriptors": torch.zeros(count, 0)}, "")


def _stored(
    path: Path, without: Collection[str] = ()
) -> AbstractContextManager[tuple[dict[str, Tensor], dict[str, str]]]:
    """The tensors of a file of landmarks and its metadata (`stored_tensors`)."""
    expected, action = "landmarks of a map", "train this map anew"
    return stored_tensors(path, expected, action, _FORMAT, _OLDER_FORMAT, without=without)


def _noise(stored: Tensor) -> tuple[float, float, float]:
    values = stored.float().tolist()
    if len(values) == 2:  # a file of before the noise of rays was stored
        values.append(0.0)
    position, rotation, ray = values
    if not all(0 <= value < torch.inf for value in values):
        raise ValueError(f"noise {stored.tolist()} of the mapping poses")
    return position, rotation, ray


def _made(tensors: dict[str, Tensor], extractor: str) -> Landmarks:
    spreads = tensors.get("spreads")
    return _checked(
        Landmarks(
            positions=tensors["positions"],
            descriptors=torch.nn.functional.normalize(tensors["descriptors"].float(), dim=1),
            directions=tensors["directions"].float(),
            distances=tensors["distances"].float(),
            lengths=tensors["lengths"].int(),
            extractor=extractor,
            pose_noise=_noise(tensors.get("pose_noise", torch.zeros(3))),
            spreads=None if spreads is None else spreads.float(),
        )
    )


def _checked(landmarks: Landmarks) -> Landmarks:
    """The landmarks; ValueError if a tensor has another shape than a landmark needs, or is not finite."""
    if landmarks.lengths.ndim != 1:
        raise ValueError(f"lengths of shape {tuple(landmarks.lengths.shape)}")
    count, columns = len(landmarks.lengths), {"positions": 3, "directions": 3, "distances": 2}
    for name, width in columns.items():
        tensor = getattr(landmarks, name)
        if tensor.shape != (count, width):
            raise ValueError(f"{name} of shape {tuple(tensor.shape)} for {count} landmarks")
    if landmarks.descriptors.ndim != 2 or len(landmarks.descriptors) != count:
        raise ValueError(f"descriptors of shape {tuple(landmarks.descriptors.shape)} for {count} landmarks")
    spreads = landmarks.spreads
    if spreads is not None and (spreads.shape != (count,) or not bool((spreads > 0).all())):
        raise ValueError(f"spreads of shape {tuple(spreads.shape)} for {count} landmarks, or not positive")
    if landmarks.positions.dtype != torch.float32 or not bool(landmarks.positions.isfinite().all()):
        raise ValueError("positions that are not finite numbers in single precision")
    if not bool(landmarks.directions.isfinite().all() & landmarks.descriptors.isfinite().all()):
        raise ValueError("directions or descriptors that are not finite")
    return landmarks
