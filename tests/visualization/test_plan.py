"""The map from above: where cameras are drawn, and which way they look."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from gsplatloc.utils import se3
from gsplatloc.visualization.plan import Cameras, draw_plan, up_direction
from tests.scene.maps import make_gaussians

GREEN, RED, BLUE = (0, 255, 0), (255, 0, 0), (0, 0, 255)


def looking(x: float, y: float, axis: tuple[float, float, float]) -> torch.Tensor:
    """A camera at (x, y, 0) of a world whose z axis points up, looking along `axis`."""
    forward = torch.tensor(axis, dtype=torch.float64)
    down = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)
    rotation = torch.stack([torch.linalg.cross(down, forward), down, forward])
    center = torch.tensor([x, y, 0.0], dtype=torch.float64)
    return se3.from_rotation_translation(rotation, -rotation @ center)


def pixels(image: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Mean (column, row) of the pixels of a colour."""
    rows, columns = np.nonzero((image == color).all(2))
    return np.array([columns.mean(), rows.mean()])


def test_the_plan_is_to_scale_and_no_mirror_image() -> None:
    """Seen from above, north is counterclockwise of east; rows of an image point down."""
    east = (1.0, 0.0, 0.0)
    at = {"origin": (0.0, 0.0), "east": (10.0, 0.0), "north": (0.0, 4.0)}
    colors = dict(zip(at, (GREEN, RED, BLUE)))
    groups = [Cameras(looking(*at[name], east)[None], colors[name]) for name in at]
    image = draw_plan(None, groups, 900)
    origin, to_east, to_north = (pixels(image, colors[name]) for name in at)
    to_east, to_north = to_east - origin, to_north - origin
    assert np.linalg.norm(to_east) / np.linalg.norm(to_north) == pytest.approx(2.5, rel=0.05)
    assert to_east[0] * to_north[1] - to_east[1] * to_north[0] < 0
    assert image.shape[1] == 900 and image.shape[0] < 600


def test_a_line_shows_where_a_camera_looks() -> None:
    ends = [looking(x, 0.0, (1.0, 0.0, 0.0)) for x in (0.0, 10.0)]
    north = looking(5.0, 0.0, (0.0, 1.0, 0.0))
    image = draw_plan(None, [Cameras(torch.stack(ends), GREEN), Cameras(north[None], RED)], 600)
    reddish = (image[..., 0] > 100) & (image[..., 1] < 60)  # edges of lines are blended
    rows, columns = (np.ptp(axis) for axis in np.nonzero(reddish))
    assert rows > columns + 4  # the dot is round, the line points across the row of cameras


def test_images_that_lie_on_their_side_are_seen_from_above_too() -> None:
    """As of a phone held upright, whose camera's right is down."""
    angles = np.linspace(0, 4, 12)
    poses = torch.stack([looking(4 * a, a * a, (math.cos(a), math.sin(a), 0.0)) for a in angles])
    turn = torch.eye(4, dtype=torch.float64)
    turn[:2, :2] = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    upright, lying = (draw_plan(None, [Cameras(found, GREEN)], 300) for found in (poses, turn @ poses))
    np.testing.assert_array_equal(upright, lying)


def test_a_camera_that_nods_more_than_it_turns_is_not_on_its_side() -> None:
    pitches = np.radians(np.linspace(-45, 45, 12))
    nodding = torch.stack([
        torch.tensor([[0.0, -1.0, 0.0], [math.sin(p), 0.0, -math.cos(p)], [math.cos(p), 0.0, math.sin(p)]])
        for p in pitches
    ])  # fmt: skip
    poses = se3.from_rotation_translation(nodding.double(), torch.zeros(12, 3).double())
    np.testing.assert_allclose(up_direction(poses), [0, 0, 1], atol=1e-6)


def test_two_cameras_do_not_show_that_they_are_on_their_side() -> None:
    poses = torch.stack([looking(0.0, 0.0, axis) for axis in ((1.0, 0.0, 0.0), (-0.8, 0.6, 0.0))])
    turn = torch.eye(4, dtype=torch.float64)
    turn[:2, :2] = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    assert abs(up_direction(turn @ poses)[2]) < 1e-6


@pytest.mark.parametrize(("count", "diameter"), [(40, 10), (41, 5)])
def test_few_cameras_are_drawn_large(count: int, diameter: int) -> None:
    poses = torch.stack([looking(x, 0.0, (0.0, 0.0, -1.0)) for x in range(count)])
    image = draw_plan(None, [Cameras(poses[:-1], GREEN), Cameras(poses[-1:], RED)], 2000)
    rows, columns = np.nonzero((image == RED).all(2))
    assert np.ptp(rows) + 1 == pytest.approx(diameter, abs=2)


def test_one_camera_and_a_map_without_extent_are_drawn() -> None:
    image = draw_plan(None, [Cameras(looking(0.0, 0.0, (1.0, 0.0, 0.0))[None], GREEN)], 100)
    assert (image == GREEN).all(2).any()


def test_the_map_is_drawn_where_it_is_and_without_what_is_above_the_cameras() -> None:
    cameras = Cameras(torch.stack([looking(x, 0.0, (0.0, 1.0, 0.0)) for x in (-1.0, 1.0)]), GREEN)
    made = make_gaussians(2)
    means = torch.tensor([[0.5, 0.3, 0.0], [-0.5, -0.3, 9.0]])
    sh = torch.zeros_like(made.sh)
    sh[:, 0] = torch.tensor([1.7, -1.7, -1.7])  # red
    sizes, opaque = torch.full((2, 3), -4.0), torch.full((2,), 9.0)
    made = replace(made, means=means, sh=sh, log_scales=sizes, opacity_logits=opaque)
    image = draw_plan(made, [cameras], 400)
    red = (image[..., 0] > 150) & (image[..., 1] < 60)
    row, column = (axis.mean() for axis in np.nonzero(red))
    rows, columns = np.nonzero((image == GREEN).all(2))
    to_ends = abs(column - np.array([columns.min(), columns.max()]))
    assert to_ends.max() == pytest.approx(3 * to_ends.min(), rel=0.15)
    assert abs(row - rows.mean()) == pytest.approx(0.15 * np.ptp(columns), rel=0.15)


def test_the_map_is_drawn_below_the_cameras() -> None:
    pose = looking(0.0, 0.0, (1.0, 0.0, 0.0))[None]
    empty = draw_plan(None, [Cameras(pose, GREEN)], 100)
    image = draw_plan(make_gaussians(50), [Cameras(pose, GREEN)], 100)
    assert image.std() > 0 and (image == GREEN).all(2).any() and empty.shape[1] == image.shape[1]
