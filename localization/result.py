"""What localization returns, stage by stage."""

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor

from gsplatloc.localization.pose.covariance import apart
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils import se3


class Status(StrEnum):
    """Why a pose is or is not there."""

    OK = "ok"
    TOO_FEW_MATCHES = "too_few_matches"
    NO_CONSENSUS = "no_consensus"  # RANSAC found no pose with enough inliers
    NOT_GIVEN = "not_given"  # a pose was to come from elsewhere, and did not


@dataclass(frozen=True)
class Matches:
    """2D-3D correspondences of a query."""

    pixels: np.ndarray  # [M, 2] float64
    points: np.ndarray  # [M, 3] float64, world
    inliers: np.ndarray  # [M] bool

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class PoseEstimate:
    """The answer of one stage."""

    status: Status
    camera: Camera  # with the focal length used
    cam_from_world: Tensor | None = None  # [4, 4] float64; None unless status is OK
    inliers: int = 0
    covariance: Tensor | None = None  # [6, 6] of xi = (rho, phi), metres and radians, left perturbation
    # [6, 6] inverse covariance as if errors were apart: weighs it against evidence that shares them
    information: Tensor | None = None
    matches: Matches | None = None
    elapsed_ms: float = 0.0
    distortion: float = 0.0  # radial k of an unknown camera (pose.distortion); `camera` is without
    accepted: bool = True  # False when a refinement was tried, rejected, and this is its prior again

    @property
    def ok(self) -> bool:
        return self.status is Status.OK

    def resized(self, width: int, height: int) -> "PoseEstimate":
        """The same estimate for the image resampled to `width` x `height` (corners stay corners)."""
        if (self.camera.width, self.camera.height) == (width, height):
            return self
        matches = self.matches
        if matches is not None:
            scale = np.array([width / self.camera.width, height / self.camera.height])
            matches = replace(matches, pixels=matches.pixels * scale)
        return replace(self, camera=self.camera.resized(width, height), matches=matches)

    @property
    def expected_translation_m(self) -> float | None:
        """Root of the mean squared error of the camera centre that the covariance states.

        The left perturbation exp(xi) moves the centre by -R^T rho: as far as rho is long.
        """
        return None if self.covariance is None else self.covariance[:3, :3].trace().sqrt().item()

    @property
    def expected_rotation_deg(self) -> float | None:
        """Likewise of the rotation."""
        return None if self.covariance is None else self.covariance[3:, 3:].trace().sqrt().rad2deg().item()

    def pose(self) -> Tensor:
        """`cam_from_world` of a successful estimate; asking a failed one is a bug."""
        if self.cam_from_world is None:
            raise ValueError(f"a pose was asked of an estimate with status {self.status}")
        return self.cam_from_world


def information_of(estimate: PoseEstimate) -> Tensor:
    """What an estimate weighs [6, 6] beside other evidence of the same photo and map; zero for nothing."""
    if estimate.covariance is None:
        return torch.zeros(6, 6, dtype=torch.float64)
    if estimate.information is None:
        return apart(estimate.covariance)
    return estimate.information.double().cpu()


@dataclass(frozen=True)
class Localization:
    """The estimates of every stage that ran, in order, and the milliseconds before the first."""

    stages: dict[str, PoseEstimate]
    features_ms: float = 0.0  # decoding excluded: network, keypoints, descriptors

    @property
    def final(self) -> PoseEstimate:
        return list(self.stages.values())[-1]

    @property
    def total_ms(self) -> float:
        return self.features_ms + sum(stage.elapsed_ms for stage in self.stages.values())


def pose_errors(estimate: Tensor | None, truth: Tensor) -> tuple[float, float]:
    """(translation_error_m between camera centres, rotation_error_deg); infinite without an estimate."""
    if estimate is None:
        return float("inf"), float("inf")
    translation = torch.linalg.norm(se3.camera_center(estimate) - se3.camera_center(truth))
    rotation = torch.linalg.norm(se3.so3_log(estimate[:3, :3] @ truth[:3, :3].T))
    return translation.item(), torch.rad2deg(rotation).item()
