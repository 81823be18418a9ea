"""Triangulation of a known cloud from exact poses."""

import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gsplatloc.localization.features import Keypoints
from gsplatloc.mapping import triangulation
from gsplatloc.mapping.pose_refinement import refine_poses
from gsplatloc.mapping.triangulation import epipolar_distances, select_pairs, triangulate
from gsplatloc.scene.cameras import Camera, View
from gsplatloc.utils import se3

CAMERA = Camera(320, 240, 260.0, 255.0, 150.0, 125.0)
COLOR = (200, 100, 50)
POINTS = 150


def look(x: float, angle: float, name: str = "view", camera: Camera = CAMERA) -> View:
    """A camera at (x, 0, 0), turned about the vertical axis by `angle` radians, seeing one colour."""
    world_from_cam = torch.eye(4, dtype=torch.float64)
    world_from_cam[:3, :3] = se3.so3_exp(torch.tensor([0.0, angle, 0.0], dtype=torch.float64))
    world_from_cam[0, 3] = x
    image = np.full((camera.height, camera.width, 3), COLOR, np.uint8)
    return View(name, camera, se3.inverse(world_from_cam), Path(name), lambda: image)


def arc(count: int = 7) -> list[View]:
    """Cameras side by side that look at the same place, 4 m ahead."""
    offsets = np.linspace(-1, 1, count)
    return [look(float(x), float(-np.arctan2(x, 4.0)), f"view{i}") for i, x in enumerate(offsets)]


def cloud() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    unit = torch.rand(POINTS, 3, generator=generator, dtype=torch.float64)
    return (unit - 0.5) * torch.tensor([2.0, 1.5, 1.5]) + torch.tensor([0.0, 0.0, 4.0])


def detect(view: View, points: torch.Tensor, noise_px: float = 0.0, seed: int = 0) -> Keypoints:
    """What an ideal detector finds of `points`; each has its own descriptor, their order is random."""
    generator = torch.Generator().manual_seed(seed)
    descriptors = torch.randn(len(points), 64, generator=torch.Generator().manual_seed(99))
    in_cam = points @ view.cam_from_world[:3, :3].T + view.cam_from_world[:3, 3]
    pixels = view.camera.project(in_cam)
    pixels = pixels + noise_px * torch.randn(pixels.shape, generator=generator, dtype=torch.float64)
    size = torch.tensor([view.camera.width, view.camera.height])
    seen = ((pixels > 0) & (pixels < size)).all(1).nonzero()[:, 0]
    seen = seen[torch.randperm(len(seen), generator=generator)]
    normalised = torch.nn.functional.normalize(descriptors[seen], dim=1)
    return Keypoints(pixels[seen].float(), normalised, torch.ones(len(seen)))


def test_points_are_where_they_were() -> None:
    views, points = arc(), cloud()
    tracks = triangulate(views, [detect(view, points) for view in views])
    nearest = torch.cdist(torch.from_numpy(tracks.positions), points).min(1)
    assert len(tracks) > 0.95 * POINTS
    assert len(nearest.indices.unique()) == len(tracks)
    assert nearest.values.max() < 1e-3


def test_names_of_images_need_not_be_utf8() -> None:
    views = [replace(view, name=f"caf\udce9 {view.name}") for view in arc()]
    keypoints = [detect(view, cloud()) for view in views]
    assert len(triangulate(views, keypoints)) > 0.95 * POINTS
    refine_poses(views, keypoints)


class Fleeting(Sequence[Keypoints]):
    """Keypoints that are made anew whenever they are asked for, and counted while somebody holds them."""

    def __init__(self, views: list[View]) -> None:
        self._views, self.most = views, 0
        self._held: weakref.WeakSet[Keypoints] = weakref.WeakSet()

    def __len__(self) -> int:
        return len(self._views)

    def __getitem__(self, index: Any) -> Any:
        found = detect(self._views[index], cloud())
        self._held.add(found)
        self.most = max(self.most, len(self._held))
        return found


def test_few_keypoints_are_held_at_a_time() -> None:
    views = arc(12)
    keypoints = Fleeting(views)
    tracks = triangulate(views, keypoints)
    assert keypoints.most <= 4
    whole = triangulate(views, [detect(view, cloud()) for view in views])
    np.testing.assert_array_equal(tracks.positions, whole.positions)


def test_noise_shows_in_the_errors() -> None:
    views, points = arc(), cloud()
    tracks = triangulate(views, [detect(view, points, 0.5, i) for i, view in enumerate(views)])
    assert 0.3 < tracks.errors.mean() < 0.9
    assert torch.cdist(torch.from_numpy(tracks.positions), points).min(1).values.median() < 0.02


def test_observations_tell_who_saw_what() -> None:
    views, points = arc(), cloud()
    keypoints = [detect(view, points) for view in views]
    tracks = triangulate(views, keypoints)
    assert (np.bincount(tracks.observed_track) == tracks.lengths).all()
    for track, view, keypoint in list(
        zip(tracks.observed_track, tracks.observed_view, tracks.observed_keypoint)
    )[::50]:
        pose = views[view].cam_from_world
        in_cam = pose[:3, :3] @ torch.from_numpy(tracks.positions[track]) + pose[:3, 3]
        pixel = CAMERA.project(in_cam[None])[0]
        torch.testing.assert_close(pixel.float(), keypoints[view].xy[keypoint], atol=0.1, rtol=0)


def test_descriptors_of_any_length_are_averaged() -> None:
    views, points = arc(), cloud()
    found = [detect(view, points) for view in views]
    keypoints = [replace(k, descriptors=torch.nn.functional.pad(k.descriptors, (0, 64))) for k in found]
    assert triangulate(views, keypoints).descriptors.shape[1] == 128


def test_descriptors_and_colours_are_the_observations() -> None:
    views, points = arc(), cloud()
    keypoints = [detect(view, points) for view in views]
    tracks = triangulate(views, keypoints)
    first = tracks.observed_track == 0
    view, keypoint = tracks.observed_view[first][0], tracks.observed_keypoint[first][0]
    torch.testing.assert_close(tracks.descriptors[0], keypoints[view].descriptors[keypoint])
    assert (tracks.colors == np.array(COLOR)).all()


def test_different_cameras_are_honoured() -> None:
    views, points = arc(), cloud()
    views[2] = look(-0.33, 0.08, "zoomed", replace(CAMERA, fx=300.0, fy=290.0, cx=160.0))
    tracks = triangulate(views, [detect(view, points) for view in views])
    assert (tracks.observed_view == 2).sum() > 0.6 * POINTS
    assert torch.cdist(torch.from_numpy(tracks.positions), points).min(1).values.max() < 1e-3


def test_short_tracks_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triangulation, "MIN_LENGTH", 7)
    views, points = arc(), cloud()
    keypoints = [detect(view, points) for view in views]
    tracks = triangulate(views, keypoints)
    assert len(tracks) > 0
    assert tracks.lengths.min() >= 7


def test_same_input_gives_the_same_tracks() -> None:
    views, points = arc(), cloud()
    keypoints = [detect(view, points, 0.5, i) for i, view in enumerate(views)]
    first, second = triangulate(views, keypoints), triangulate(views, keypoints)
    assert np.array_equal(first.positions, second.positions)


@pytest.mark.parametrize("count", [0, 5])
def test_nothing_to_match_gives_empty_tracks(count: int) -> None:
    views = arc()
    none = Keypoints(torch.zeros(count, 2), torch.zeros(count, 128), torch.zeros(count))
    tracks = triangulate(views, [none] * len(views))
    assert len(tracks) == 0
    assert tracks.positions.shape == (0, 3)
    assert tracks.descriptors.shape == (0, 128)


def test_pairs_prefer_close_views_with_the_same_direction() -> None:
    views = [look(x, 0.0) for x in (0.0, 0.1, 0.2, 5.0)] + [look(0.05, np.pi)]
    pairs = select_pairs(views, neighbours=1)
    assert pairs == [(0, 1), (1, 2), (2, 3)]


def test_views_that_look_away_are_no_pair() -> None:
    assert select_pairs([look(0.0, 0.0), look(0.1, 1.2)]) == []


def test_views_at_one_place_are_paired() -> None:
    """A rotating camera has no spread to measure distance by."""
    assert select_pairs([look(0.0, 0.0), look(0.0, 0.2)]) == [(0, 1)]


def test_epipolar_distance_of_a_shifted_point_is_its_shift() -> None:
    """Side by side, epipolar lines are rows: a vertical shift is a distance."""
    a, b = look(0.0, 0.0), look(0.5, 0.0)
    point = torch.tensor([[0.2, 0.1, 3.0]], dtype=torch.float64)
    xy_a = a.camera.project(point).numpy()
    xy_b = b.camera.project(point - torch.tensor([0.5, 0.0, 0.0])).numpy()
    assert epipolar_distances(a, b, xy_a, xy_b)[0] == pytest.approx(0.0, abs=1e-9)
    assert epipolar_distances(a, b, xy_a, xy_b + [7.0, 2.0])[0] == pytest.approx(2.0)
