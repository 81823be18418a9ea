"""Conditions change image, camera and pose together."""

import numpy as np
import pytest
import torch

from benchmarks.accuracy.scenes import CONDITIONS, Shot, under
from gsplatloc.scene.cameras import Camera

_CAMERA = Camera(160, 120, 100.0, 100.0, 78.0, 63.0)
_POSE = torch.eye(4, dtype=torch.float64)
_GEOMETRIC = ("turned90", "turned180", "turned270", "cropped", "quarter")


def shot_of(point: torch.Tensor) -> Shot:
    """A dark image with one bright square where the point is seen."""
    image = np.zeros((120, 160, 3), np.uint8)
    column, row = (int(value) for value in _CAMERA.project(point[None])[0])
    image[row - 4 : row + 5, column - 4 : column + 5] = 255
    return Shot(image, _CAMERA, _POSE)


@pytest.mark.parametrize("condition", _GEOMETRIC)
@pytest.mark.parametrize("point", [[0.1, -0.2, 2.0], [-0.5, 0.3, 2.5]])
def test_a_point_is_seen_where_the_changed_camera_projects_it(condition: str, point: list[float]) -> None:
    world = torch.tensor(point, dtype=torch.float64)
    found = under(condition, "a", shot_of(world))
    assert found.image.shape[:2] == (found.camera.height, found.camera.width)
    in_cam = found.cam_from_world[:3, :3] @ world + found.cam_from_world[:3, 3]
    rows, columns = np.nonzero(found.image[..., 0] > 127)
    seen = np.array([columns.mean() + 0.5, rows.mean() + 0.5])
    np.testing.assert_allclose(seen, found.camera.project(in_cam[None])[0].numpy(), atol=1.1)


def test_half_the_field_of_view_and_a_quarter_of_the_size() -> None:
    shot = shot_of(torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64))
    cropped, quarter = under("cropped", "a", shot), under("quarter", "a", shot)
    assert (cropped.camera.width, cropped.camera.fx) == (80, 100.0)
    assert (quarter.camera.width, quarter.camera.fx) == (40, 25.0)


@pytest.mark.parametrize("condition", sorted(set(CONDITIONS) - {"plain", *_GEOMETRIC}))
def test_an_appearance_changes_the_pixels_alone_and_always_in_the_same_way(condition: str) -> None:
    image = np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8)
    found = under(condition, "a", Shot(image, _CAMERA, _POSE))
    assert found.camera == _CAMERA and torch.equal(found.cam_from_world, _POSE)
    assert found.image.shape == image.shape and (found.image != image).any(2).mean() > 0.25
    np.testing.assert_array_equal(found.image, under(condition, "a", Shot(image, _CAMERA, _POSE)).image)


def test_thirty_percent_are_occluded() -> None:
    image = np.zeros((120, 160, 3), np.uint8)
    changed = under("occluded", "a", Shot(image, _CAMERA, _POSE)).image.any(2)
    assert changed.mean() == pytest.approx(0.3, abs=0.03)
