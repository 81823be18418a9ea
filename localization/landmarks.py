"""Landmarks: points of the map with descriptors made for matching, a few MB that do without the splats."""

from dataclasses import dataclass, replace
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from utils.errors import GSplatLocError
from utils.io import atomic_path

FILE_NAME = "landmarks.safetensors"
_FORMAT = "gsplatloc-landmarks-1"


@dataclass(frozen=True)
class Landmarks:
    """M landmarks, the most often observed first."""

    positions: Tensor  # [M, 3] float32, world
    descriptors: Tensor  # [M, 64] float32, L2-normalised (fp16 in the file)
    directions: Tensor  # [M, 3] float32, mean unit vector towards the cameras that saw it; its length <= 1
    lengths: Tensor  # [M] int32, mapping views that saw it
    extractor: str  # `XFeatExtractor.version` of the descriptors: others do not compare with them

    def __len__(self) -> int:
        return self.positions.shape[0]

    def to(self, device: torch.device | str) -> "Landmarks":
        return replace(
            self,
            positions=self.positions.to(device),
            descriptors=self.descriptors.to(device),
            directions=self.directions.to(device),
            lengths=self.lengths.to(device),
        )

    def select(self, index: Tensor | slice) -> "Landmarks":
        """The landmarks at `index` (indices, a mask or a slice)."""
        return Landmarks(
            self.positions[index],
            self.descriptors[index],
            self.directions[index],
            self.lengths[index],
            self.extractor,
        )


def save_landmarks(landmarks: Landmarks, path: Path | str) -> None:
    """Write `landmarks` as safetensors, atomically; descriptors and directions in half precision."""
    tensors = {
        "positions": landmarks.positions.float(),
        "descriptors": landmarks.descriptors.half(),
        "directions": landmarks.directions.half(),
        "lengths": landmarks.lengths.int(),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, {"format": _FORMAT, "extractor": landmarks.extractor})


def load_landmarks(path: Path | str) -> Landmarks:
    """Read what `save_landmarks` wrote; a missing or foreign file is a `GSplatLocError`."""
    path = Path(path)
    if not path.is_file():
        raise GSplatLocError(f"expected landmarks in {path}, found no file: run train.py for this map")
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except safetensors.SafetensorError as error:
        raise GSplatLocError(f"expected landmarks in {path}, found {error}: run train.py again") from None
    if metadata.get("format") != _FORMAT:
        found = metadata.get("format", "no format name")
        raise GSplatLocError(f"expected {_FORMAT} in {path}, found {found}: run train.py again")
    try:
        return Landmarks(
            positions=tensors["positions"],
            descriptors=torch.nn.functional.normalize(tensors["descriptors"].float(), dim=1),
            directions=tensors["directions"].float(),
            lengths=tensors["lengths"],
            extractor=metadata["extractor"],
        )
    except KeyError as error:
        raise GSplatLocError(f"expected {error} in {path}, found none: run train.py again") from None
