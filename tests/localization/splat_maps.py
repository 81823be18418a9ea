"""A rendered room as a map's folder without landmarks or descriptors, and the images that it was made of."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from gsplatloc.datasets.layout import format_pose
from gsplatloc.gaussian_renderer import render
from gsplatloc.localization.alignment.rendered_view import to_image
from gsplatloc.scene.cameras import PosedCamera
from gsplatloc.scene.export import save_gaussians
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.map_config import MapConfig, write_cameras, write_config
from gsplatloc.utils import se3
from tests.localization.rendered_room import CAMERA, RENDER


def pose_near(seed: int, size: float = 1.0) -> Tensor:
    """A pose [4, 4] about that of the room's query."""
    spread = size * torch.tensor([0.25, 0.12, 0.2, 0.06, 0.12, 0.04])
    xi = torch.randn(6, generator=torch.Generator().manual_seed(seed)) * spread
    return se3.se3_exp((xi + torch.tensor([0.1, -0.05, 0.1, 0.05, -0.1, 0.03])).double())


def photo(gaussians: Gaussians, pose: Tensor) -> np.ndarray:
    with torch.no_grad():
        return to_image(render(gaussians, CAMERA, pose, RENDER).rgb)


def write_scene(folder: Path, gaussians: Gaussians, poses: Sequence[Tensor]) -> Path:
    """The images of a scene in posed folders."""
    matrix = "".join(" ".join(map(str, row)) + "\n" for row in CAMERA.matrix().tolist())
    for name in ("rgb", "poses", "calibration"):
        (folder / "train" / name).mkdir(parents=True)
    for number, pose in enumerate(poses):
        stem = f"frame-{number:06d}"
        cv2.imwrite(
            str(folder / "train" / "rgb" / f"{stem}.color.png"), photo(gaussians, pose)[..., ::-1].copy()
        )
        (folder / "train" / "poses" / f"{stem}.pose.txt").write_text(format_pose(se3.inverse(pose).numpy()))
        (folder / "train" / "calibration" / f"{stem}.calibration.txt").write_text(matrix)
    return folder


def write_map(
    folder: Path,
    gaussians: Gaussians,
    poses: Sequence[Tensor],
    scene: Path | None = None,
) -> Path:
    """The map's folder: Gaussians without descriptors, and the cameras."""
    folder.mkdir(parents=True)
    write_config(folder, MapConfig(str(scene or folder / "splat.ply")))
    views = [PosedCamera(CAMERA, pose, f"{number}.png") for number, pose in enumerate(poses)]
    write_cameras(folder, views)  # type: ignore[arg-type]
    bare = Gaussians(**{**gaussians.parameters(), "features": torch.zeros(len(gaussians), 0)})
    save_gaussians(folder, 0, bare)
    return folder
