"""A world of points with random descriptors, and cameras that see it."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gsplatloc.localization.evaluation import pose_error
from gsplatloc.localization.features import Features, Keypoints
from gsplatloc.localization.landmarks.file import Landmarks
from gsplatloc.localization.queries import Query
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils import se3

VERSION = "test-1"
CAMERA = Camera(640, 480, 520.0, 510.0, 310.0, 250.0)  # off-centre, fx != fy
TRUTH = se3.se3_exp(torch.tensor([0.3, -0.2, 0.5, 0.1, -0.3, 0.2], dtype=torch.float64))


def pose_errors(estimate: Tensor | None, truth: Tensor) -> tuple[float, float]:
    """Errors of the camera centre in metres and of the rotation in degrees."""
    error = pose_error(estimate, truth)
    return error.translation_m, error.rotation_deg


@dataclass(frozen=True)
class World:
    """Landmarks, and what an ideal detector finds of them from `TRUTH`."""

    landmarks: Landmarks
    features: Features

    def query(self, camera: Camera, features: Features | None = None) -> Query:
        """A query with the world's features, or others."""
        found = features or self.features
        image = np.zeros((camera.height, camera.width, 3), np.uint8)
        return Query(image, camera, found.keypoints, found.dense)

    @property
    def pixels(self) -> np.ndarray:
        return self.features.keypoints.xy.double().numpy()

    @property
    def points(self) -> np.ndarray:
        """World points of the keypoints, in order."""
        return self.landmarks.positions[: len(self.features.keypoints)].double().numpy()


class FakeExtractor:
    """Returns the world's features whatever the image."""

    name, version, channels = "fake", VERSION, 64
    device = torch.device("cpu")
    top_k = 2048

    def __init__(self, features: Features):
        self.features = features

    def extract(self, image: np.ndarray) -> Features:
        return self.features

    def dense_size(self, width: int, height: int) -> tuple[int, int]:
        return height // 8, width // 8


def make_world(noise_px: float = 0.5, outliers: int = 40, seed: int = 0) -> World:
    """200 landmarks with noisy keypoints, of which `outliers` are anywhere, and 100 unseen landmarks."""
    generator = torch.Generator().manual_seed(seed)
    seen, unseen = 200, 100
    pixels = torch.rand(seen, 2, generator=generator, dtype=torch.float64) * torch.tensor([600.0, 440.0]) + 20
    depth = torch.rand(seen, generator=generator, dtype=torch.float64) * 4 + 1
    in_cam = CAMERA.unproject(pixels, depth)
    world_from_cam = se3.inverse(TRUTH)
    visible = in_cam @ world_from_cam[:3, :3].T + world_from_cam[:3, 3]
    positions = torch.cat([visible, torch.randn(unseen, 3, generator=generator, dtype=torch.float64)])
    descriptors = _unit(torch.randn(seen + unseen, 64, generator=generator))
    noisy = pixels + noise_px * torch.randn(seen, 2, generator=generator, dtype=torch.float64)
    noisy[:outliers] = torch.rand(outliers, 2, generator=generator, dtype=torch.float64) * 440 + 20
    keypoints = Keypoints(noisy.float(), descriptors[:seen].clone(), torch.ones(seen))
    towards = se3.camera_center(TRUTH) - positions
    distances = towards.norm(dim=1, keepdim=True) * torch.tensor([0.9, 1.1])
    landmarks = Landmarks(
        positions.float(), descriptors, _unit(towards).float(), distances.float(),
        torch.full((seen + unseen,), 5, dtype=torch.int32), VERSION,
    )  # fmt: skip
    return World(landmarks, Features(keypoints, torch.zeros(64, 60, 80)))


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=1)
