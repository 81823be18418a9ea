"""Where the first Gaussians come from."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gsplatloc.mapping import initialization as init
from gsplatloc.mapping.options import InitializationOptions
from gsplatloc.mapping.triangulation import Tracks
from gsplatloc.scene.cameras import Scene, SparsePoints, View
from gsplatloc.utils.errors import GSplatLocError


def no_tracks() -> Tracks:
    none = np.zeros(0, np.int64)
    return Tracks(
        np.zeros((0, 3)), np.zeros((0, 3), np.uint8), torch.zeros(0, 64), none, np.zeros(0), none, none, none
    )


def one_track() -> Tracks:
    return replace(no_tracks(), positions=np.array([[1.0, 2, 3]]), colors=np.array([[9, 8, 7]], np.uint8))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def without(scene: Scene, points: bool = False, depth: bool = False) -> Scene:
    views = [replace(view, load_depth=None) if depth else view for view in scene.train]
    return replace(scene, train=views, points=None if points else scene.points)


def start(scene: Scene, kind: str, tracks: Tracks | None = None) -> SparsePoints:
    options = InitializationOptions(init=kind, init_max_points=2_000)  # type: ignore[arg-type]
    return init.initial_points(scene, scene.train, options, lambda: tracks or no_tracks(), generator())


def test_depth_lands_on_the_surfaces(tiny_views: list[View]) -> None:
    """Points from one view, seen by it, have the depth that it measured."""
    view = tiny_views[0]
    points = init.points_from_depth([view])
    assert view.load_depth is not None and len(points) > 20
    in_camera = (
        torch.from_numpy(points.positions) @ view.cam_from_world[:3, :3].T + view.cam_from_world[:3, 3]
    )
    column, row = view.camera.project(in_camera).numpy().astype(int).T
    assert np.allclose(in_camera[:, 2].numpy(), view.load_depth()[row, column], atol=1e-5)
    assert np.array_equal(points.colors, view.load_image()[row, column])


def test_occlusion_edges_give_no_points(tiny_views: list[View]) -> None:
    step = np.full((32, 40), 2.0, np.float32)
    step[:, 20:] = 3.0
    points = init.points_from_depth([replace(tiny_views[0], load_depth=lambda: step)])
    in_camera = tiny_views[0].cam_from_world[:3, :3].numpy() @ points.positions.T
    columns = 36 * in_camera[0] / (in_camera[2] + 2.5) + 20
    assert len(points) > 100 and (np.abs(columns - 20) > 1).all()


def test_auto_merges_depth_and_points(tiny_scene: Scene) -> None:
    merged = start(tiny_scene, "auto")
    assert len(merged) == len(start(tiny_scene, "depth")) + len(start(tiny_scene, "points"))


def test_auto_falls_back_to_tracks_and_then_to_chance(tiny_scene: Scene) -> None:
    bare = without(tiny_scene, points=True, depth=True)
    assert start(bare, "auto", one_track()).positions.tolist() == [[1, 2, 3]]
    assert len(start(bare, "auto")) == 2_000


@pytest.mark.parametrize("kind", ["points", "depth"])
def test_what_is_asked_for_by_name_must_be_there(tiny_scene: Scene, kind: str) -> None:
    with pytest.raises(GSplatLocError, match="--init auto"):
        start(without(tiny_scene, points=True, depth=True), kind)


def test_random_points_are_seen_by_the_views(tiny_views: list[View]) -> None:
    points = init.random_points(tiny_views, 60, generator())
    assert len(points) == 60
    view = tiny_views[0]
    in_camera = (
        torch.from_numpy(points.positions[:10]) @ view.cam_from_world[:3, :3].T + view.cam_from_world[:3, 3]
    )
    pixels = view.camera.project(in_camera)
    assert (in_camera[:, 2] > 0).all() and (pixels >= 0).all() and (pixels <= torch.tensor([40, 32])).all()


def test_thinning_keeps_the_mean_and_the_limit() -> None:
    draws = np.random.default_rng(0)
    points = SparsePoints(draws.random((5000, 3)), draws.integers(0, 255, (5000, 3)).astype(np.uint8))
    thin = init.thinned(points, 300)
    assert 150 < len(thin) <= 300
    assert np.allclose(thin.positions.mean(0), points.positions.mean(0), atol=0.03)
    assert init.thinned(thin, 300) is thin


def test_a_gaussian_is_as_large_as_the_distance_to_its_neighbours() -> None:
    positions = np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 2], [50, 0, 0]])
    assert init.neighbour_distances(positions)[0] == pytest.approx(np.sqrt((1 + 4 + 4) / 3))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_points_make_finite_gaussians(count: int) -> None:
    points = SparsePoints(np.zeros((count, 3)), np.full((count, 3), 255, np.uint8))
    made = init.gaussians_from_points(points, 2, torch.zeros(count, 4))
    assert len(made) == count and made.sh.shape == (count, 9, 3)
    assert all(tensor.isfinite().all() for tensor in made.parameters().values())


def test_a_gaussian_starts_with_its_points_colour() -> None:
    points = SparsePoints(np.eye(3), np.array([[255, 0, 51], [0, 0, 0], [9, 9, 9]], np.uint8))
    made = init.gaussians_from_points(points, 0, torch.zeros(3, 0))
    rgb = 0.5 + 0.28209479177387814 * made.sh[0, 0]
    assert rgb.tolist() == pytest.approx([1, 0, 0.2], abs=1e-6)


def test_the_extent_is_that_of_the_cameras(tiny_views: list[View]) -> None:
    one = init.scene_extent(tiny_views[:1])
    assert one == 1.0
    shifted = tiny_views[0].cam_from_world.clone()
    shifted[0, 3] += 4
    two = init.scene_extent([tiny_views[0], tiny_views[0].with_pose(shifted)])
    assert two == pytest.approx(1.1 * 2)
