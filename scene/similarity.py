"""Similarity transforms of splats and cameras: rotation, one scale, translation."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gsplatloc.scene.cameras import PosedCamera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.harmonics import rotated
from gsplatloc.scene.map_frame import MapFrame
from gsplatloc.scene.readers.poses import read_numbers
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError

_ROTATION_ERROR = 1e-4  # largest deviation of R R^T from the identity: of matrices with few digits


@dataclass(frozen=True)
class Similarity:
    """x_new = scale * rotation @ x + translation, in double precision."""

    scale: float
    rotation: Tensor  # [3, 3]
    translation: Tensor  # [3]

    @classmethod
    def of_scale(cls, scale: float) -> "Similarity":
        return cls(scale, torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))

    @classmethod
    def of_matrix(cls, matrix: np.ndarray) -> "Similarity":
        """From a matrix [4, 4]; raises ValueError if it mirrors, stretches or projects."""
        matrix = np.asarray(matrix, np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise ValueError("numbers that are not finite")
        linear = torch.from_numpy(matrix[:3, :3].copy())
        size = float(linear.det().abs() ** (1 / 3))
        rotation = linear / size if size > 0 else linear
        exact = torch.eye(3, dtype=torch.float64)
        if size == 0 or not torch.allclose(rotation @ rotation.T, exact, atol=_ROTATION_ERROR):
            raise ValueError("a matrix that stretches")
        if linear.det() < 0:
            raise ValueError("a matrix that mirrors")
        if not np.allclose(matrix[3], (0, 0, 0, 1)):
            raise ValueError("a matrix whose last row is not 0 0 0 1")
        return cls(size, rotation, torch.from_numpy(matrix[:3, 3].copy()))

    @property
    def is_identity(self) -> bool:
        same = Similarity.of_scale(1.0)
        return (
            self.scale == 1
            and torch.equal(self.rotation, same.rotation)
            and torch.equal(self.translation, same.translation)
        )

    def points(self, points: Tensor) -> Tensor:
        """Points [..., 3] after the transform, in double precision."""
        return self.scale * (points.double() @ self.rotation.T) + self.translation

    def gaussians(self, gaussians: Gaussians) -> Gaussians:
        """Gaussians after the transform, their means in double precision: they may be far away now."""
        if self.is_identity:
            return gaussians
        moved = replace(
            gaussians,
            means=self.points(gaussians.means),
            log_scales=gaussians.log_scales + float(np.log(self.scale)),
        )
        if torch.equal(self.rotation, torch.eye(3, dtype=torch.float64)):
            return moved
        own = se3.rotation_from_quaternion(gaussians.quaternions.double())
        quaternions = se3.quaternion_from_rotation(self.rotation @ own).to(gaussians.quaternions)
        return replace(moved, quaternions=quaternions, sh=rotated(gaussians.sh, self.rotation))

    def camera(self, view: PosedCamera) -> PosedCamera:
        """A camera that sees the moved scene as it saw the scene before."""
        pose = view.cam_from_world.double()
        rotation = pose[:3, :3] @ self.rotation.T
        translation = self.scale * pose[:3, 3] - rotation @ self.translation
        return replace(view, cam_from_world=se3.from_rotation_translation(rotation, translation))

    def in_frame(self, frame: MapFrame | None) -> tuple["Similarity", MapFrame | None]:
        """(the transform of coordinates of `frame`, their new frame) for one of world coordinates.

        The origin of a frame takes the translation, so that coordinates of the map stay small.
        """
        if frame is None:
            return self, None
        x, y, z = self.points(torch.tensor(frame.origin, dtype=torch.float64)).tolist()
        return replace(self, translation=torch.zeros_like(self.translation)), MapFrame((x, y, z), frame.unit)


def read_similarity(path: Path) -> Similarity:
    """The similarity of a text file with the four rows of its matrix [4, 4]; raises `GSplatLocError`."""
    numbers = read_numbers(path)
    try:
        return Similarity.of_matrix(numbers.reshape(4, 4))
    except ValueError as error:
        found = f"{numbers.size} numbers" if numbers.size != 16 else str(error)
        raise GSplatLocError(
            f"expected the four rows of a similarity transform in {path}, found {found}: write scale times"
            " rotation, and the translation in the last column"
        ) from None
