"""A scene small enough to be trained by the reference rasterizer within seconds."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.localization.features import Features, Keypoints
from gsplatloc.scene.cameras import Camera, Scene, SparsePoints, View
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils import se3

CAMERA = Camera(40, 32, 36.0, 36.0, 20.0, 16.0)


class GridExtractor:
    """An extractor for tests: mean colours of 8x8 cells in four channels, keypoints at their centres."""

    name, version, channels = "grid", "grid-1", 4
    top_k = 20
    calls = 0

    def dense_size(self, width: int, height: int) -> tuple[int, int]:
        return height // 8, width // 8

    def extract(self, image: np.ndarray) -> Features:
        self.calls += 1
        height, width = image.shape[:2]
        cells = F.avg_pool2d(torch.from_numpy(image).permute(2, 0, 1).float()[None] / 255, 8)[0]
        dense = F.normalize(torch.cat([cells, torch.full_like(cells[:1], 0.5)]), dim=0)
        rows, columns = torch.meshgrid(torch.arange(height // 8), torch.arange(width // 8), indexing="ij")
        xy = torch.stack([columns, rows], -1).reshape(-1, 2) * 8.0 + 4
        return Features(Keypoints(xy, dense.flatten(1).T.contiguous(), torch.ones(len(xy))), dense)


def true_gaussians() -> Gaussians:
    """Forty blobs of many colours in front of the cameras."""
    generator = torch.Generator().manual_seed(5)
    count = 40
    means = torch.rand(count, 3, generator=generator) * torch.tensor([2.4, 2.0, 1.0]) - torch.tensor(
        [1.2, 1, 0]
    )
    return Gaussians(
        means=means,
        quaternions=F.normalize(torch.randn(count, 4, generator=generator), dim=1),
        log_scales=torch.log(0.1 + 0.15 * torch.rand(count, 3, generator=generator)),
        opacity_logits=torch.full((count,), 2.0),
        sh=(torch.rand(count, 1, 3, generator=generator) - 0.5) * 3,
        features=torch.zeros(count, 0),
    )


def look_at_origin(angle: float) -> Tensor:
    """A camera 2.5 m before the blobs, swung around the vertical axis; [4, 4]."""
    swing = se3.se3_exp(torch.tensor([0.0, 0, 0, 0, angle, 0], dtype=torch.float64))
    back = torch.eye(4, dtype=torch.float64)
    back[2, 3] = 2.5
    return back @ swing


def make_views(folder: Path, count: int) -> list[View]:
    folder.mkdir(parents=True, exist_ok=True)
    gaussians, views = true_gaussians(), []
    for index in range(count):
        pose = look_at_origin(-0.4 + 0.8 * index / max(count - 1, 1))
        result = render(gaussians, CAMERA, pose, RenderOptions(backend="reference"))
        image = (result.rgb.clamp(0, 1).permute(1, 2, 0) * 255).round().byte().numpy()
        path = folder / f"{index:03d}.png"
        cv2.imwrite(str(path), image[..., ::-1])
        depth = torch.where(result.alpha > 0.5, result.depth, 0).numpy()
        views.append(View(f"{index:03d}", CAMERA, pose, path, lambda p=path: read(p), lambda d=depth: d))
    return views


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path))[..., ::-1].copy()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors here are tiny: a second thread only waits, for long where other processes run beside."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_views(tmp_path_factory: pytest.TempPathFactory) -> list[View]:
    return make_views(tmp_path_factory.mktemp("tiny") / "rgb", 6)


@pytest.fixture(scope="session")
def tiny_scene(tiny_views: list[View]) -> Scene:
    truth = true_gaussians()
    colors = ((truth.sh[:, 0] * 0.2820948 + 0.5).clamp(0, 1) * 255).byte().numpy()
    points = SparsePoints(truth.means.double().numpy(), colors)
    return Scene("tiny", tiny_views[0].image_path.parent, tiny_views, [], points)


@pytest.fixture
def extractor() -> GridExtractor:
    return GridExtractor()
