"""From frames to a trajectory: every frame starts where constant velocity leads from the estimates."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from gsplatloc.tracking.frames import RgbdFrame
from gsplatloc.tracking.protocol import Aligner, Tracked
from gsplatloc.tracking.surface import SurfaceMap
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError


@dataclass
class Tracker:
    """Tracks one frame after another; the truth plays no part in it."""

    aligner: Aligner
    surface: SurfaceMap
    start: Tensor = field(default_factory=lambda: torch.eye(4, dtype=torch.float64))  # the first frame's pose
    poses: list[Tensor] = field(default_factory=list)  # cam_from_world of the frames so far
    keyframes: list[int] = field(default_factory=list)  # those that made the map
    lost: list[int] = field(default_factory=list)  # frames like no other: they stay where they were

    def add(self, frame: RgbdFrame) -> Tensor:
        """The next frame's pose [4, 4]; `GSplatLocError` where the first frame has no depth."""
        tracked = self._track(frame)
        if not tracked.ok:
            self.lost.append(len(self.poses))
        if tracked.keyframe:
            self.keyframes.append(len(self.poses))
            self.surface.add(frame, tracked.cam_from_world)
        self.poses.append(tracked.cam_from_world)
        return tracked.cam_from_world

    def _track(self, frame: RgbdFrame) -> Tracked:
        if not self.poses:
            if not frame.inverse_depth.any():
                raise GSplatLocError(
                    f"expected depth in the first frame, {frame.name}, found none near enough: start later"
                    " by --first, or raise --frames.max_depth"
                )
            pose = exact_rotation(self.start)
            self.aligner.start(frame, pose)
            return Tracked(pose, keyframe=True)
        tracked = self.aligner.track(frame, predicted(self.poses))
        if not tracked.ok:
            return Tracked(self.poses[-1], ok=False)
        return Tracked(exact_rotation(tracked.cam_from_world), keyframe=tracked.keyframe)


def predicted(poses: list[Tensor]) -> Tensor:
    """Where the next pose [4, 4] is if the camera moves on as it did between the last two."""
    if len(poses) < 2:
        return poses[-1]
    return exact_rotation(poses[-1] @ se3.inverse(poses[-2]) @ poses[-1])


def exact_rotation(pose: Tensor) -> Tensor:
    """The pose with its rotation made orthogonal again.

    Products of poses drift off, and each prediction would double what transposing makes of that.
    """
    quaternion = se3.quaternion_from_rotation(pose[:3, :3])
    return se3.from_rotation_translation(se3.rotation_from_quaternion(quaternion), pose[:3, 3])
