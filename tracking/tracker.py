"""From frames to a trajectory: the initial pose of a frame follows from constant velocity."""

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
    """Tracks one frame after another, without any ground truth."""

    aligner: Aligner
    surface: SurfaceMap
    start: Tensor = field(default_factory=lambda: torch.eye(4, dtype=torch.float64))  # the first frame's pose
    poses: list[Tensor] = field(default_factory=list)  # cam_from_world of the frames so far
    keyframes: list[int] = field(default_factory=list)  # fused into the map
    lost: list[int] = field(
        default_factory=list
    )  # frames that could not be aligned: they keep the previous pose

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
    """The next pose [4, 4] at constant velocity."""
    if len(poses) < 2:
        return poses[-1]
    return exact_rotation(poses[-1] @ se3.inverse(poses[-2]) @ poses[-1])


def exact_rotation(pose: Tensor) -> Tensor:
    """The pose with its rotation made orthogonal again.

    Rounding errors of products of poses grow, and each prediction would double that of a transposed inverse.
    """
    quaternion = se3.quaternion_from_rotation(pose[:3, :3])
    return se3.from_rotation_translation(se3.rotation_from_quaternion(quaternion), pose[:3, 3])
