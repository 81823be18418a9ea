"""The protocol of RGB-D aligners; members of the family are `lm` and `gsplatloc`."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from gsplatloc.tracking.frames import RgbdFrame


@dataclass(frozen=True)
class Tracked:
    """The result of an aligner for one frame."""

    cam_from_world: Tensor  # [4, 4] float64
    ok: bool = True  # False: too few samples in view or another place; the pose is not used
    keyframe: bool = False  # whether the frame's depth should enter the map


class Aligner(Protocol):
    """Finds the pose of one frame after another, from the earlier frames that it keeps."""

    def start(self, frame: RgbdFrame, cam_from_world: Tensor) -> None:
        """Take the first frame, whose pose [4, 4] is given, as reference."""
        ...

    def track(self, frame: RgbdFrame, predicted: Tensor) -> Tracked:
        """The pose of the next frame, near `predicted` [4, 4]."""
        ...
