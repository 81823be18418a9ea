"""Localized queries in the live view."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gsplatloc.localization.io.json_lines import LocalizedQuery
from gsplatloc.localization.result import Status
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.map_frame import MapFrame
from gsplatloc.utils import se3
from gsplatloc.visualization.query_panel import ALL, NONE, QueryPanel, center_ellipsoid
from gsplatloc.visualization.viewer import LiveViewer

CAMERA = Camera(64, 48, 60, 60, 32, 24)
FRAME = MapFrame((100.0, 0.0, 0.0), 2.0)


def pose(x: float) -> torch.Tensor:
    """Of a camera at (x, 0, 0) that looks along z."""
    return se3.from_rotation_translation(torch.eye(3).double(), torch.tensor([-x, 0, 0]).double())


def query(name: str, photo: Path | None, stated_m: float | None = 0.01) -> LocalizedQuery:
    covariance = None if stated_m is None else torch.eye(6).double() * stated_m**2 / 3
    return LocalizedQuery(name, Status.OK, CAMERA, pose(104), covariance, stated_m, 0.2, 0.02, photo)


@pytest.fixture
def panel(tmp_path: Path) -> Iterator[QueryPanel]:
    pytest.importorskip("viser")
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), np.full((96, 128, 3), 200, np.uint8))
    viewer = LiveViewer("127.0.0.1", 18080)
    seen = []

    def render(camera: Camera, cam_from_map: torch.Tensor) -> np.ndarray:
        seen.append(cam_from_map)
        return np.full((camera.height, camera.width, 3), 100, np.uint8)

    queries = [
        query("sure", photo, 0.001),
        query("moved away", tmp_path / "none.png", 0.1),
        replace(query("unverified", photo, None), status=Status.UNVERIFIED),
    ]
    panel = QueryPanel(viewer._server, queries, render, FRAME, 0.1)
    panel.seen = seen  # type: ignore[attr-defined]
    yield panel
    viewer.close()


def test_the_photo_is_mixed_with_the_map_at_the_pose_in_its_coordinates(panel: QueryPanel) -> None:
    panel.choose("sure")
    assert panel.picture.shape == (48, 64, 3) and (panel.picture == 150).all()
    (found,) = panel.seen  # type: ignore[attr-defined]
    assert se3.camera_center(found).tolist() == [2.0, 0.0, 0.0]
    assert "0.1 cm" in panel._text.content and "2 cm" in panel._text.content


def test_a_query_without_its_photo_shows_the_map(panel: QueryPanel) -> None:
    panel.choose("moved away")
    assert (panel.picture == 100).all() and "No photo at" in panel._text.content


def test_only_the_chosen_query_is_drawn(panel: QueryPanel) -> None:
    def visible() -> set[str]:
        return {name for name, shapes in panel._shapes.items() if all(shape.visible for shape in shapes)}

    assert len(visible()) == 3
    panel.choose("sure")
    assert visible() == {"sure"} and panel._picture.visible
    panel.choose(NONE)
    assert visible() == set() and not panel._picture.visible
    panel.choose(ALL)
    assert len(visible()) == 3


def test_the_least_certain_query_comes_first_and_has_an_ellipsoid_if_its_covariance_is_known(
    panel: QueryPanel,
) -> None:
    assert list(panel._queries) == ["unverified", "moved away", "sure"]
    assert [len(shapes) for shapes in panel._shapes.values()] == [1, 2, 2]
    assert panel._shapes["moved away"][1].scale == pytest.approx([3 * 0.1 / 3**0.5 / FRAME.unit] * 3)


def test_the_ellipsoid_is_that_of_the_camera_centre() -> None:
    generator = torch.Generator().manual_seed(0)
    factor = 0.01 * torch.randn(6, 6, generator=generator).double()
    covariance = factor @ factor.T
    truth = se3.se3_exp(torch.randn(6, generator=generator).double())
    samples = torch.randn(20_000, 6, generator=generator).double() @ factor.T
    moved = se3.camera_center(se3.se3_exp(samples) @ truth)
    axes, rotation = center_ellipsoid(truth, covariance)
    assert torch.det(rotation).item() == pytest.approx(1)
    expected = rotation @ torch.diag((axes / 3) ** 2) @ rotation.T
    torch.testing.assert_close(torch.cov(moved.T), expected, rtol=0.1, atol=2e-6)
