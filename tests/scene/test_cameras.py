"""Cameras: the pixel convention under resampling, and projection against its inverse."""

from pathlib import Path

import torch

from gsplatloc.scene.cameras import Camera, Scene

CAMERA = Camera(width=640, height=480, fx=525.0, fy=530.0, cx=318.2, cy=243.7)


def points_ahead() -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(50, 3, generator=generator, dtype=torch.float64) + torch.tensor([-0.5, -0.5, 1.0])


def test_projection_agrees_with_the_calibration_matrix() -> None:
    points = points_ahead()
    homogeneous = points @ CAMERA.matrix().T
    torch.testing.assert_close(CAMERA.project(points), homogeneous[:, :2] / homogeneous[:, 2:])


def test_unproject_inverts_project() -> None:
    points = points_ahead()
    torch.testing.assert_close(CAMERA.unproject(CAMERA.project(points), points[:, 2]), points)


def test_a_scene_is_described_in_one_line() -> None:
    shown = repr(Scene("kitchen", Path("/scenes/kitchen"), [], []))
    assert shown == "Scene('kitchen', '/scenes/kitchen', 0 training views, 0 test views)"


def test_resizing_keeps_corners_on_corners() -> None:
    small = CAMERA.resized(160, 60)
    expected = CAMERA.project(points_ahead()) * torch.tensor([160 / 640, 60 / 480], dtype=torch.float64)
    torch.testing.assert_close(small.project(points_ahead()), expected)
    assert (small.width, small.height) == (160, 60)


def test_resizing_back_restores_the_camera() -> None:
    restored = CAMERA.resized(320, 240).resized(640, 480)
    torch.testing.assert_close(restored.matrix(), CAMERA.matrix())


def test_an_image_shows_its_pixels_up_to_its_borders() -> None:
    width, height = CAMERA.width, CAMERA.height
    inside = torch.tensor([[0.0, 0.0], [width - 0.01, height - 0.01]])
    outside = torch.tensor([[-0.01, 5.0], [5.0, -0.01], [width, 5.0], [5.0, height], [float("nan"), 5.0]])
    assert CAMERA.shows(torch.cat([inside, outside])).tolist() == [True] * 2 + [False] * 5
    assert CAMERA.shows(torch.tensor([[0, height - 1], [width, 0]])).tolist() == [True, False]
