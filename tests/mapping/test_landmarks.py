"""Landmarks chosen from tracks."""

from pathlib import Path

import numpy as np
import torch

from gsplatloc.mapping.landmarks import build_landmarks
from gsplatloc.mapping.triangulation import Tracks
from gsplatloc.scene.cameras import Camera, View

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


VIEWS = [view_at(x) for x in (0.0, 1.0, 2.0, 3.0, 4.0)]


def test_longest_tracks_come_first() -> None:
    tracks = make_tracks([3, 5, 4])
    landmarks = build_landmarks(VIEWS, tracks, "v1")
    assert landmarks.lengths.tolist() == [5, 4, 3]
    torch.testing.assert_close(landmarks.positions[0].double(), torch.from_numpy(tracks.positions[1]))
    torch.testing.assert_close(landmarks.descriptors[0], tracks.descriptors[1])
    assert landmarks.extractor == "v1"


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
