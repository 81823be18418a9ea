"""What every tracker of this package can be asked: members of the family are `lm` and `gsplatloc`."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from gsplatloc.tracking.frames import RgbdFrame


@dataclass(frozen=True)
class Tracked:
    """What an aligner says of one frame."""

    cam_from_world: Tensor  # [4, 4] float64
    ok: bool = True  # False where there was too little to compare: the pose is the prediction's neighbour
    keyframe: bool = False  # whether the frame's depth should enter the map


class Aligner(Protocol):
    """Finds the pose of one frame after another, from what it kept of those before."""

    def start(self, frame: RgbdFrame, cam_from_world: Tensor) -> None:
        """Take the first frame, whose pose [4, 4] is given, as reference."""
        ...

    def track(self, frame: RgbdFrame, predicted: Tensor) -> Tracked:
        """The pose of the next frame, near `predicted` [4, 4]."""
        ...
