"""Landmarks and trajectories in the live view."""

from typing import Any

import torch

from gsplatloc.localization.landmarks.file import Landmarks
from gsplatloc.utils import se3
from gsplatloc.visualization.live_view.layers import add_landmarks, add_trajectory


def test_landmarks_are_hidden_until_their_box_is_ticked(server: Any) -> None:
    positions, lengths = torch.arange(6.0).reshape(2, 3), torch.tensor([20, 3], dtype=torch.int32)
    landmarks = Landmarks(positions, torch.zeros(2, 4), positions, torch.zeros(2, 2), lengths, "xfeat")
    drawn: list[Any] = []
    add = server.scene.add_point_cloud
    server.scene.add_point_cloud = lambda *a, **k: drawn.append(add(*a, **k)) or drawn[-1]
    box = add_landmarks(server, landmarks, 1.0)
    (points,) = drawn
    assert points.points.tolist() == positions.tolist() and not points.visible
    brightness = points.colors.astype(int).sum(1)
    assert brightness[0] > brightness[1]  # of the one that more views saw
    box.value = True
    assert _eventually(lambda: points.visible)


def test_a_trajectory_joins_the_camera_centres(server: Any) -> None:
    centers = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 2, 0]]).double()
    poses = torch.stack([se3.from_rotation_translation(torch.eye(3).double(), -center) for center in centers])
    drawn: list[Any] = []
    add = server.scene.add_line_segments
    server.scene.add_line_segments = lambda *a, **k: drawn.append(add(*a, **k)) or drawn[-1]
    box = add_trajectory(server, "trajectory", poses, (1, 2, 3))
    (path,) = drawn
    assert path.points.tolist() == [[[0, 0, 0], [1, 0, 0]], [[1, 0, 0], [1, 2, 0]]] and path.visible
    box.value = False
    assert _eventually(lambda: not path.visible)


def _eventually(holds: Any) -> bool:
    """viser may call from another thread."""
    import time

    end = time.monotonic() + 10
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()
