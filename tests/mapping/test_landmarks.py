"""Landmarks chosen from tracks."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gsplatloc.localization.features import Keypoints
from gsplatloc.mapping.landmarks import build_landmarks, pose_noise
from gsplatloc.mapping.triangulation import Tracks
from gsplatloc.scene.cameras import Camera, View
from gsplatloc.utils import se3

CAMERA = Camera(64, 48, 50.0, 50.0, 32.0, 24.0)


def view_at(x: float) -> View:
    cam_from_world = torch.eye(4, dtype=torch.float64)
    cam_from_world[0, 3] = -x
    return View(f"{x}", CAMERA, cam_from_world, Path("none"), lambda: np.zeros((48, 64, 3), np.uint8))


def make_tracks(lengths: list[int]) -> Tracks:
    """Points 1 m in front of the first camera, seen by the first `length` views."""
    count = len(lengths)
    generator = torch.Generator().manual_seed(0)
    track = np.repeat(np.arange(count), lengths)
    return Tracks(
        positions=np.tile([0.0, 0.0, 1.0], (count, 1)) + np.arange(count)[:, None] * [0, 0, 0.1],
        colors=np.zeros((count, 3), np.uint8),
        descriptors=torch.nn.functional.normalize(torch.randn(count, 64, generator=generator), dim=1),
        lengths=np.array(lengths),
        errors=np.ones(count),
        observed_track=track,
        observed_view=np.concatenate([np.arange(length) for length in lengths]),
        observed_keypoint=np.zeros(len(track), np.int64),
    )


def noisy_scene(position: float, rotation: float) -> tuple[list[View], Tracks, list[Keypoints]]:
    """Points seen by 40 cameras, whose given poses have noise of these standard deviations per axis."""
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(300, 3, generator=generator, dtype=torch.float64) * 2 - 1
    points[:, 2] += 4
    views, keypoints = [], []
    for number in range(40):
        true = view_at(0.05 * number).cam_from_world
        pixels = CAMERA.project(points @ true[:3, :3].T + true[:3, 3])
        keypoints.append(Keypoints(pixels.float(), torch.zeros(300, 64), torch.ones(300)))
        xi = torch.randn(6, generator=generator, dtype=torch.float64)
        given = se3.se3_exp(xi * torch.tensor([position] * 3 + [rotation] * 3)) @ true
        views.append(replace(view_at(0.05 * number), cam_from_world=given))
    view = np.repeat(np.arange(40), 300)
    tracks = replace(
        make_tracks([40] * 300),
        positions=points.numpy(),
        observed_track=np.tile(np.arange(300), 40),
        observed_view=view,
        observed_keypoint=np.tile(np.arange(300), 40),
    )
    return views, tracks, keypoints


def test_the_noise_of_the_mapping_poses_is_measured() -> None:
    noise = (0.02, 0.004)
    *poses, ray = pose_noise(*noisy_scene(*noise))
    assert poses == pytest.approx(noise, rel=0.35)
    assert ray == pytest.approx(math.hypot(noise[0] / 4, noise[1]), rel=0.35)  # the points are 4 m away


def test_noise_that_the_points_do_not_show_is_not_stated_twice() -> None:
    """Positions off by 1 mm are less than the errors of points by rotations off by 0.5 mrad, 2 mm."""
    position, rotation, ray = pose_noise(*noisy_scene(0.001, 0.0005))
    assert position < 0.0015 and 0.0002 < rotation < 0.0007
    assert ray == pytest.approx(0.0005, rel=0.35)


def test_errors_of_keypoints_are_no_noise_of_the_poses() -> None:
    """Poses of inaccurate keypoints differ from the given ones, but as much as is expected of them."""
    views, tracks, keypoints = noisy_scene(0.0, 0.0)
    generator = torch.Generator().manual_seed(2)
    moved = [replace(found, xy=found.xy + torch.randn(300, 2, generator=generator)) for found in keypoints]
    position, rotation, ray = pose_noise(views, tracks, moved)
    assert position < 0.004 and rotation < 0.001  # 0.008 and 0.002 with the error of the poses found
    assert 0 < ray < 0.005


def test_drift_that_neighbours_share_is_noise_too() -> None:
    """The second half of the views is shifted as a whole: each half agrees with itself."""
    views, tracks, keypoints = noisy_scene(0.0, 0.0)
    shift = torch.tensor([0.03, 0, 0, 0, 0, 0], dtype=torch.float64)
    moved = [replace(view, cam_from_world=se3.se3_exp(shift) @ view.cam_from_world) for view in views[20:]]
    assert 0.003 < pose_noise([*views[:20], *moved], tracks, keypoints)[0] < 0.03


def test_views_that_see_too_few_points_have_no_known_noise() -> None:
    views, tracks, keypoints = noisy_scene(0.02, 0.004)
    few = tracks.observed_track < 20
    tracks = replace(tracks, observed_track=tracks.observed_track[few],
                     observed_view=tracks.observed_view[few],
                     observed_keypoint=tracks.observed_keypoint[few])  # fmt: skip
    assert pose_noise(views, tracks, keypoints) == (0.0, 0.0, 0.0)


VIEWS = [view_at(x) for x in (0.0, 1.0, 2.0, 3.0, 4.0)]


def test_longest_tracks_come_first() -> None:
    tracks = make_tracks([3, 5, 4])
    landmarks = build_landmarks(VIEWS, tracks, "v1")
    assert landmarks.lengths.tolist() == [5, 4, 3]
    torch.testing.assert_close(landmarks.positions[0].double(), torch.from_numpy(tracks.positions[1]))
    torch.testing.assert_close(landmarks.descriptors[0], tracks.descriptors[1])
    assert landmarks.extractor == "v1"


def test_the_spread_of_a_landmark_is_that_of_its_rays() -> None:
    spread = build_landmarks(VIEWS, make_tracks([3]), "v1").spreads
    assert spread is not None
    along = torch.tensor([[-x, 0.0, 1.0] for x in (0.0, 1.0, 2.0)])
    rays = torch.nn.functional.normalize(along, dim=1)
    mean = torch.nn.functional.normalize(rays.sum(0), dim=0)
    torch.testing.assert_close(spread, (1 - (rays @ mean) ** 2).sum()[None].sqrt())


def test_the_cap_keeps_the_longest() -> None:
    landmarks = build_landmarks(VIEWS, make_tracks([3, 5, 4]), "v1", max_landmarks=2)
    assert landmarks.lengths.tolist() == [5, 4]


def test_directions_point_at_the_cameras() -> None:
    landmarks = build_landmarks(VIEWS, make_tracks([1, 2]), "v1")
    torch.testing.assert_close(landmarks.directions[1], torch.tensor([0.0, 0.0, -1.0]))
    first = torch.tensor([0.0, 0.0, -1.0])
    second = torch.nn.functional.normalize(torch.tensor([1.0, 0.0, -1.1]), dim=0)
    torch.testing.assert_close(landmarks.directions[0], (first + second) / 2)


def test_distances_are_those_of_the_nearest_and_the_farthest_camera() -> None:
    landmarks = build_landmarks(VIEWS, make_tracks([3]), "v1")
    torch.testing.assert_close(landmarks.distances, torch.tensor([[1.0, 5.0**0.5]]))


def test_no_tracks_give_no_landmarks() -> None:
    empty = Tracks(
        np.zeros((0, 3)), np.zeros((0, 3), np.uint8), torch.zeros(0, 64), np.zeros(0, np.int64), np.zeros(0),
        np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64),
    )  # fmt: skip
    assert len(build_landmarks(VIEWS, empty, "v1")) == 0
