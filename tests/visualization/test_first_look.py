"""The picture of a new map, whatever the shapes of the place and of its photos."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gsplatloc.scene.cameras import Camera, View
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.images import decode_rgb
from gsplatloc.utils import se3
from gsplatloc.visualization.first_look import save_first_look
from tests.scene.maps import make_gaussians

WIDE, TALL = Camera(64, 48, 60.0, 60.0, 32.0, 24.0), Camera(48, 64, 60.0, 60.0, 24.0, 32.0)


def place(depth: float) -> Gaussians:
    """Gaussians in front of the cameras, `depth` deep."""
    found = make_gaussians(200)
    means = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 1.0, depth])
    return replace(found, means=means + torch.tensor([-0.5, -0.5, 1.0]))


@pytest.mark.parametrize("depth", [0.1, 1.0, 6.0])
@pytest.mark.parametrize("count", [1, 7])
def test_any_place_and_photos_of_any_shape_are_drawn(tmp_path: Path, depth: float, count: int) -> None:
    views = []
    for number in range(count):
        camera = (WIDE, TALL)[number % 2]
        pose = se3.se3_exp(torch.tensor([0.1 * number, 0, 0, 0, 0, 0], dtype=torch.float64))
        photo = np.full((camera.height, camera.width, 3), 90, np.uint8)
        views.append(View(f"{number}.png", camera, pose, Path(), lambda photo=photo: photo))
    save_first_look(tmp_path / "look.png", place(depth), views, views)
    assert decode_rgb(tmp_path / "look.png").shape[1] == 3 * 480 + 2 * 6
