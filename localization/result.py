"""The results of localization: one pose estimate per stage."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor

from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.map_frame import MapFrame
from gsplatloc.utils import se3


class Status(StrEnum):
    """Whether a pose was found, and why not."""

    OK = "ok"
    TOO_FEW_MATCHES = "too_few_matches"
    UNVERIFIED = "unverified"  # there is a pose, but the query does not look like the map rendered there
    NO_CONSENSUS = "no_consensus"  # RANSAC found no pose with enough inliers
    NOT_GIVEN = "not_given"  # no pose of another estimator was given for this query
    UNREADABLE = "unreadable"  # the image or its calibration could not be read


# Why a query has no verified pose, and what would help.
ADVICE: Mapping[Status, str] = {
    Status.TOO_FEW_MATCHES: "too few keypoints match the map: give a sharper, larger or brighter image,"
    " or map this place from more viewpoints",
    Status.UNVERIFIED: "the image does not look like the map at its pose: check the pose otherwise,"
    " or map this place from more viewpoints",
    Status.NO_CONSENSUS: "its matches agree on no pose: check that the map shows this place and that"
    " the focal length is right, or map it from viewpoints nearer to this one",
    Status.UNREADABLE: "the image could not be read: save it again, as PNG or JPEG",
    Status.NOT_GIVEN: "the file of given poses has none of this image: complete it, or use another --initial",
}
# What would help where two places of the map look alike.
TWINS = "compare the pose with a rough position of your own, or give an image that shows what differs"


@dataclass(frozen=True)
class Matches:
    """2D-3D correspondences of a query."""

    pixels: np.ndarray  # [M, 2] float64
    points: np.ndarray  # [M, 3] float64, world
    inliers: np.ndarray  # [M] bool

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True, repr=False)
class PoseEstimate:
    """The result of one stage. Inliers, matches, covariance and information are those of `cam_from_world`."""

    status: Status
    camera: Camera  # with the focal length used
    cam_from_world: Tensor | None = None  # [4, 4] float64; None unless status is OK
    inliers: int = 0  # number of matches within the stages' common threshold of reprojection error
    # [6, 6] of xi = (rho, phi), metres and radians, left perturbation; calibrated (`pose.covariance`)
    covariance: Tensor | None = None
    # [6, 6] J^T W J assuming independent residuals: the weight of this estimate in later stages
    information: Tensor | None = None
    matches: Matches | None = None
    elapsed_ms: float = 0.0
    distortion: float = 0.0  # radial k of an unknown camera (`pose.distortion`); `camera` is a pinhole
    # [6, 6], the part of `covariance` due to an estimated camera, which later stages keep
    camera_covariance: Tensor | None = None
    # False: a refinement was rejected and this is the pose before it, or nothing supports this pose yet.
    accepted: bool = True

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

    def in_world(self, frame: MapFrame) -> "PoseEstimate":
        """This estimate, made in a map's coordinates, in those of its scene."""
        if frame.is_world:
            return self
        pose, matches = self.cam_from_world, self.matches
        if matches is not None:
            matches = replace(matches, points=frame.points_in_world(matches.points))
        units = torch.tensor([frame.unit] * 3 + [1.0] * 3, dtype=torch.float64)
        squares = units[:, None] * units
        return replace(
            self,
            cam_from_world=None if pose is None else frame.pose_in_world(pose),
            covariance=None if self.covariance is None else self.covariance * squares,
            camera_covariance=None if self.camera_covariance is None else self.camera_covariance * squares,
            information=None if self.information is None else self.information / squares,
            matches=matches,
        )

    @property
    def covariance_of_known_camera(self) -> Tensor | None:
        """The covariance [6, 6] of the pose if the camera were exactly this one."""
        if self.covariance is None or self.camera_covariance is None:
            return self.covariance
        return self.covariance - self.camera_covariance.to(self.covariance)

    def __repr__(self) -> str:
        """The figures on one line; matches and covariance, of thousands of numbers, are left out."""
        parts = [str(self.status)]
        if self.center is not None and self.quaternion is not None:
            position, rotation = _numbers(self.center, 4), _numbers(self.quaternion, 5)
            parts.append(f"center=[{position}], quaternion=[{rotation}]")
        if self.expected_translation_m is not None:
            parts.append(
                f"expected {self.expected_translation_m:.3g} m, {self.expected_rotation_deg:.3g} deg"
            )
        return f"PoseEstimate({', '.join([*parts, f'{self.inliers} inliers'])})"

    @property
    def center(self) -> Tensor | None:
        """The camera's centre in the world [3] float64, metres; None for a failed estimate."""
        return None if self.cam_from_world is None else se3.camera_center(self.cam_from_world)

    @property
    def quaternion(self) -> Tensor | None:
        """The rotation of `cam_from_world` as a unit quaternion wxyz [4], w >= 0; None for a failed one."""
        if self.cam_from_world is None:
            return None
        return se3.quaternion_from_rotation(self.cam_from_world[:3, :3])

    @property
    def expected_translation_m(self) -> float | None:
        """Root mean square error of the camera centre according to the covariance, metres.

        The left perturbation exp(xi) moves the centre by -R^T rho, a vector of the length of rho.
        """
        return None if self.covariance is None else self.covariance[:3, :3].trace().sqrt().item()

    @property
    def expected_rotation_deg(self) -> float | None:
        """Root mean square error of the rotation according to the covariance, degrees."""
        return None if self.covariance is None else self.covariance[3:, 3:].trace().sqrt().rad2deg().item()

    def pose(self) -> Tensor:
        """`cam_from_world` of a successful estimate; raises `ValueError` for a failed one."""
        if self.cam_from_world is None:
            raise ValueError(f"expected an estimate with a pose, found status {self.status}: check `ok`")
        return self.cam_from_world


@dataclass(frozen=True, repr=False)
class Localization:
    """The estimates of all stages that ran, in order."""

    stages: dict[str, PoseEstimate]  # by name, the initial pose first
    features_ms: float = 0.0  # time of the feature extraction (network, keypoints, descriptors)
    # Whether the query agrees with the map at the final pose; without refinements: whether there is a pose.
    verified: bool = True
    score: float | None = None  # verification score in [-1, 1]; None where it was not needed
    search_ms: float = 0.0  # time of verification, and of hypotheses that were given up
    # The pose in another place of the map that looks as much like the query; then none is verified.
    rival: PoseEstimate | None = None
    # Whether matches contradict the camera that was given, and that of the final pose was estimated instead.
    camera_replaced: bool = False

    def __repr__(self) -> str:
        score = "" if self.score is None else f", score {self.score:.2f}"
        figures = f"{self.status}{score}, {self.total_ms:.0f} ms, stages {', '.join(self.stages)}"
        return f"Localization({figures}, final={self.final!r})"

    @property
    def final(self) -> PoseEstimate:
        return list(self.stages.values())[-1]

    @property
    def status(self) -> Status:
        """OK for a verified pose, UNVERIFIED for another pose, else the reason why there is none."""
        return Status.UNVERIFIED if self.final.ok and not self.verified else self.final.status

    @property
    def advice(self) -> str:
        """What a user should know of the pose: why it is not verified, or that the given camera is wrong."""
        if self.rival is not None and self.rival.center is not None:
            return f"another place looks as much like the image, at {_numbers(self.rival.center, 2)}: {TWINS}"
        unverified = ADVICE.get(self.status, "")
        return ". ".join(filter(None, (self.camera_advice, unverified)))

    @property
    def camera_advice(self) -> str:
        """That the given camera is wrong, where it was replaced."""
        if not self.camera_replaced or not self.final.ok:
            return ""
        focal = f"a focal length of {self.final.camera.fx:.1f} px was estimated"
        return f"the given camera does not fit its matches: {focal}"

    @property
    def total_ms(self) -> float:
        stages_ms = sum(stage.elapsed_ms for stage in self.stages.values())
        return self.features_ms + stages_ms + self.search_ms


def _numbers(vector: Tensor, digits: int) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in vector.tolist())
