"""Similarity transforms: a moved splat looks from moved cameras as before."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gsplatloc.arguments.from_splat import parse_from_splat_arguments
from gsplatloc.cli.from_splat import transform_of
from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.scene.cameras import Camera, PosedCamera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.map_frame import MapFrame
from gsplatloc.scene.similarity import Similarity, read_similarity
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError

CAMERA = Camera(60, 40, 50.0, 50.0, 30.0, 20.0)


def matrix(scale: float, translation: tuple[float, float, float] = (3.0, -1.0, 2.0)) -> np.ndarray:
    quaternion = torch.tensor([0.9, 0.1, -0.3, 0.2], dtype=torch.float64)
    found = np.eye(4)
    found[:3, :3] = scale * se3.rotation_from_quaternion(quaternion).numpy()
    found[:3, 3] = translation
    return found


def splat(count: int = 60) -> Gaussians:
    """Gaussians in front of the camera at the origin, with colours that depend on the direction."""
    random = torch.Generator().manual_seed(2)
    means = torch.rand(count, 3, generator=random) * torch.tensor([2.0, 1.4, 1]) + torch.tensor([-1, -0.7, 2])
    return Gaussians(
        means, torch.randn(count, 4, generator=random),
        torch.randn(count, 3, generator=random) * 0.3 - 2.0, torch.full((count,), 2.0),
        torch.randn(count, 16, 3, generator=random) * 0.3, torch.zeros(count, 0),
    )  # fmt: skip


@pytest.mark.parametrize("scale", [0.3, 2.5])
def test_a_moved_splat_looks_from_a_moved_camera_as_before(scale: float) -> None:
    move = Similarity.of_matrix(matrix(scale))
    view = PosedCamera(CAMERA, torch.eye(4, dtype=torch.float64), "a")
    before = render(splat(), CAMERA, view.cam_from_world, RenderOptions())
    moved = move.gaussians(splat())
    moved = replace(moved, means=moved.means.float())
    after = render(moved, CAMERA, move.camera(view).cam_from_world, RenderOptions())
    assert before.rgb.std() > 0.05
    torch.testing.assert_close(after.rgb, before.rgb, atol=2e-3, rtol=0)
    torch.testing.assert_close(after.depth, scale * before.depth, atol=1e-3, rtol=1e-3)
    center = se3.camera_center(move.camera(view).cam_from_world)
    torch.testing.assert_close(center, move.points(torch.zeros(3)))


def test_the_origin_of_a_map_takes_the_translation() -> None:
    """Coordinates of UTM stay near the origin, in single precision."""
    world = Similarity.of_matrix(matrix(2.0, (5e5, 4e6, 100.0)))
    move, frame = world.in_frame(MapFrame((10.0, 0.0, -4.0), 0.1))
    assert frame is not None and move.gaussians(splat()).means.abs().max() < 20
    point = np.array([[0.3, 0.2, 5.0]])
    before = torch.from_numpy(MapFrame((10.0, 0.0, -4.0), 0.1).points_in_world(point))
    after = frame.points_in_world(move.points(torch.from_numpy(point)).numpy())
    np.testing.assert_allclose(after, world.points(before).numpy(), rtol=0, atol=1e-8)
    assert world.in_frame(None) == (world, None)


def test_a_far_translation_does_not_round_the_means() -> None:
    """Where no frame takes it: map_splat moves them near the origin afterwards."""
    far = (5e5, 4e6, 100.0)
    move = Similarity.of_matrix(matrix(2.0, far))
    near = move.gaussians(splat()).means - torch.tensor(far, dtype=torch.float64)
    expected = Similarity.of_matrix(matrix(2.0, (0, 0, 0))).points(splat().means)
    torch.testing.assert_close(near, expected, atol=1e-8, rtol=0)


def test_matrices_that_are_no_similarity_are_a_users_error(tmp_path: Path) -> None:
    mirror, stretched, last = np.diag([1.0, 1, -1, 1]), np.diag([1.0, 1, 2, 1]), np.eye(4)
    last[3, 0] = 0.1
    path = tmp_path / "similarity.txt"
    for wrong, found in (
        (mirror, "mirrors"), (stretched, "stretches"), (last, "last row"), (np.zeros((4, 4)), "stretches"),
        (np.full((4, 4), np.nan), "finite"), (np.eye(3), "9 numbers"),
    ):  # fmt: skip
        np.savetxt(path, wrong)
        with pytest.raises(GSplatLocError, match=f"four rows of a similarity transform.*{found}"):
            read_similarity(path)
    np.savetxt(path, matrix(2.5))
    assert read_similarity(path).scale == pytest.approx(2.5)


def test_the_scale_is_stated_in_one_of_three_ways(tmp_path: Path) -> None:
    words, path = [str(tmp_path / "a.ply"), "-m", str(tmp_path / "map")], tmp_path / "similarity.txt"
    np.savetxt(path, matrix(0.5))
    for flags, scale in (
        ([], 1.0),
        (["--scale", "0.2"], 0.2),
        (["--distance", "0", "-1", "0", "3", "3", "0", "2.5"], 0.5),
        (["--similarity", str(path)], 0.5),
    ):
        assert math.isclose(transform_of(parse_from_splat_arguments([*words, *flags])).scale, scale)
    for flags, found in (
        (["--scale", "0"], "positive --scale, found 0.0"),
        (["--scale", "2", "--similarity", str(path)], "found --scale and --similarity"),
        (["--distance", *"1231234"], "two points and a positive --distance"),
        (["--distance", *"000123", "-4"], "two points and a positive --distance"),
    ):
        with pytest.raises(GSplatLocError, match=found):
            parse_from_splat_arguments([*words, *flags])
