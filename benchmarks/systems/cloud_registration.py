"""Registration of point clouds by small_gicp, as a careful user would set it up, as an `Aligner`.

Optional: `pip install small_gicp==1.0.1`. Point-to-plane ICP and generalized ICP (Segal et al., RSS 2009),
each against the last frame or against the last keyframe. Voxels of 1, 3 and 6 cm and distances of 5 and 20 cm
were compared on stretches of RedKitchen's training frames, 2 cm with 5, 10 and 20 cm also on the first 70
frames of tum_livingroom1.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor

from gsplatloc.tracking.frames import RgbdFrame
from gsplatloc.tracking.protocol import Tracked
from gsplatloc.tracking.tracker import exact_rotation
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError

VERSION = "1.0.1"


@dataclass(frozen=True)
class PeerOptions:
    """How clouds are registered."""

    kind: Literal["PLANE_ICP", "GICP"]
    voxel: float = 0.02  # metres, of the clouds
    distance: float = 0.05  # metres, between points that may correspond
    keyframe: float = 0.0  # metres plus radians after which the reference is changed; 0 = every frame
    neighbours: int = 20  # of a point, for its normal and covariance
    iterations: int = 50  # at most
    threads: int = 2


PEERS = {
    "point-to-plane ICP": PeerOptions("PLANE_ICP"),
    "point-to-plane ICP, keyframes": PeerOptions("PLANE_ICP", keyframe=0.1),
    "GICP": PeerOptions("GICP"),
    "GICP, keyframes": PeerOptions("GICP", keyframe=0.1),
}


class CloudAligner:
    """`tracking.protocol.Aligner` by registration of point clouds."""

    def __init__(self, options: PeerOptions):
        self.options = options
        self._package = package()
        self._reference: Any = None  # cloud and search tree
        self._pose = torch.eye(4, dtype=torch.float64)  # of the reference

    def start(self, frame: RgbdFrame, cam_from_world: Tensor) -> None:
        self._reference, self._pose = self._cloud(frame), cam_from_world

    def track(self, frame: RgbdFrame, predicted: Tensor) -> Tracked:
        cloud = self._cloud(frame)
        guess = self._pose @ se3.inverse(predicted)  # reference camera from this one
        found = self._package.align(
            self._reference[0],
            cloud[0],
            self._reference[1],
            init_T_target_source=guess.numpy(),
            registration_type=self.options.kind,
            max_correspondence_distance=self.options.distance,
            num_threads=self.options.threads,
            max_iterations=self.options.iterations,
        )
        motion = torch.from_numpy(found.T_target_source)
        if not bool(motion.isfinite().all()):
            return Tracked(predicted, ok=False)
        pose = exact_rotation(se3.inverse(motion) @ self._pose)
        if se3.se3_log(motion).norm() > self.options.keyframe:
            self._reference, self._pose = cloud, pose
        return Tracked(pose)  # no keyframe: its time is not spent on a map

    def _cloud(self, frame: RgbdFrame) -> Any:
        depth = frame.depth
        rows, columns = (depth > 0).nonzero(as_tuple=True)
        pixels = torch.stack([columns, rows], 1).double() + 0.5
        points = frame.camera.unproject(pixels, depth[rows, columns].double())
        return self._package.preprocess_points(
            points.numpy(),
            downsampling_resolution=self.options.voxel,
            num_neighbors=self.options.neighbours,
            num_threads=self.options.threads,
        )


def package() -> ModuleType:
    """small_gicp; an error of one line, how to install it, where it is missing."""
    try:
        import small_gicp
    except ImportError:
        raise GSplatLocError(
            f"expected the peer small_gicp, found none: pip install small_gicp=={VERSION}, or pass --no_peers"
        ) from None
    return small_gicp
