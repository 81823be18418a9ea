"""Poses of scene files, checked when they are read."""

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError, quoted
from gsplatloc.utils.io import number_words, read_text

# Largest entry of |R^T R - I| of a stored pose. KinectFusion's poses and files with few decimals have up to
# 1e-2; a scaled or sheared matrix has far more.
_ORTHOGONALITY_TOLERANCE = 0.02
_LAST_ROW_TOLERANCE = 1e-6  # of matrices that were inverted or multiplied
_WINDOWS_NOT_FINITE = re.compile(r"[-+]?\d+(\.\d*)?#(INF|IND|NAN|QNAN|SNAN)\w*", re.IGNORECASE)


def rigid_from_matrix(matrix: np.ndarray, source: str) -> Tensor | None:
    """A stored [4, 4] or [3, 4] rigid motion -> [4, 4] float64, its rotation made exact; None if not finite.

    `source` names the pose in errors. Raises `GSplatLocError` for a wrong shape or if it holds no rotation.
    """
    if matrix.shape not in ((4, 4), (3, 4)):
        raise GSplatLocError(f"expected a 4x4 pose in {source}, found shape {matrix.shape}: rewrite the pose")
    if not np.isfinite(matrix).all():
        return None
    bottom = matrix[3:].ravel()
    expected_rows = np.array([[0, 0, 0, 1], [0, 0, 0, 0]])  # with zeros alone in files of some programs
    if len(bottom) and np.abs(bottom - expected_rows).max(1).min() > _LAST_ROW_TOLERANCE:
        raise GSplatLocError(
            f"expected a last row of 0 0 0 1 in {source}, found {quoted(bottom.tolist())}: transpose the"
            " pose, whose translation is its last column"
        )
    rotation = matrix[:3, :3]
    if np.abs(rotation).max() > 1e6:  # squares of larger numbers overflow
        raise GSplatLocError(f"expected a rotation in {source}, found entries above 1e6: rewrite the pose")
    if np.linalg.det(rotation) < 0:
        raise GSplatLocError(
            f"expected a rotation in {source}, found a reflection (determinant < 0): correct the axes"
        )
    error = np.abs(rotation.T @ rotation - np.eye(3)).max()
    if error > _ORTHOGONALITY_TOLERANCE:
        raise GSplatLocError(
            f"expected a rotation in {source}, found R^T R {error:.3g} from the identity: remove its scale"
        )
    # The nearest rotation (Procrustes), because poses are inverted by transposition.
    u, _, vt = np.linalg.svd(rotation)
    return se3.from_rotation_translation(torch.from_numpy(u @ vt), torch.from_numpy(matrix[:3, 3].copy()))


def read_numbers(path: Path) -> np.ndarray:
    """The numbers of a text file, whitespace or comma separated, flat [N] float64; without lines after #.

    Windows' old runtime wrote what is not finite as -1.#INF, 1.#QNAN and so on, as in 12-Scenes.
    """
    lines = read_text(path).splitlines()
    words = [word for line in lines if not line.lstrip().startswith("#") for word in number_words(line)]
    words = ["nan" if "#" in word and _WINDOWS_NOT_FINITE.fullmatch(word) else word for word in words]
    try:
        return np.array(words, dtype=np.float64)
    except ValueError as error:
        raise GSplatLocError(f"expected numbers in {path}, found {quoted(error)}: restore the file") from None


def read_pose(path: Path) -> Tensor | None:
    """`cam_from_world` [4, 4] of a camera-to-world text file; None if not finite (tracking was lost)."""
    numbers = read_numbers(path)
    if numbers.size not in (12, 16):
        raise GSplatLocError(
            f"expected a 4x4 camera-to-world pose in {path}, found {numbers.size} numbers: rewrite it"
        )
    world_from_cam = rigid_from_matrix(numbers.reshape(-1, 4), str(path))
    return None if world_from_cam is None else se3.inverse(world_from_cam)
