"""Localized queries in the live view."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gsplatloc.localization.io.json_lines import LocalizedQuery
from gsplatloc.localization.result import Matches, Status
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.map_frame import MapFrame
from gsplatloc.utils import se3
from gsplatloc.visualization.images import colorize_difference
from gsplatloc.visualization.live_view.query_panel import ALL, DIFFERENCE, FINAL, NONE, QueryPanel
from gsplatloc.visualization.live_view.query_shapes import INLIER, OUTLIER, center_ellipsoid
from gsplatloc.visualization.live_view.viewer import LiveViewer

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

    def draw(camera: Camera, cam_from_map: torch.Tensor, kind: str) -> np.ndarray:
        seen.append((cam_from_map, kind))
        return np.full((camera.height, camera.width, 3), {"rgb": 100, "depth": 50}[kind], np.uint8)

    queries = [
        query("sure", photo, 0.001),
        query("moved away", tmp_path / "none.png", 0.1),
        replace(query("unverified", photo, None), status=Status.UNVERIFIED),
    ]
    panel = QueryPanel(viewer._server, queries, draw, ("rgb", "depth"), FRAME, 0.1)
    panel.seen = seen  # type: ignore[attr-defined]
    yield panel
    viewer.close()


def test_the_photo_is_mixed_with_the_map_at_the_pose_in_its_coordinates(panel: QueryPanel) -> None:
    panel.choose("sure")
    assert panel.picture.shape == (48, 64, 3) and (panel.picture == 150).all()
    found, _ = panel.seen[-1]  # type: ignore[attr-defined]
    assert se3.camera_center(found).tolist() == [2.0, 0.0, 0.0]
    assert "0.1 cm" in panel._text.content and "2 cm" in panel._text.content


def test_a_query_without_its_photo_shows_the_map(panel: QueryPanel) -> None:
    panel.choose("moved away")
    assert (panel.picture == 100).all() and "No photo at" in panel._text.content


def test_only_the_chosen_query_is_drawn(panel: QueryPanel) -> None:
    def visible() -> set[str]:
        return {name for name, shapes in panel._shapes.items() if shapes.frustum.visible}

    assert len(visible()) == 3
    panel.choose("sure")
    assert visible() == {"sure"} and panel._picture.visible
    assert panel._shapes["sure"].frustum.image is None  # one stands behind it
    panel.choose(NONE)
    assert visible() == set() and not panel._picture.visible
    panel.choose(ALL)
    assert len(visible()) == 3
    assert panel._shapes["sure"].frustum.image is not None


def test_the_least_certain_query_comes_first_and_has_an_ellipsoid_if_its_covariance_is_known(
    panel: QueryPanel,
) -> None:
    assert list(panel._queries) == ["unverified", "moved away", "sure"]
    ellipsoids = {name: shapes.ellipsoid for name, shapes in panel._shapes.items()}
    assert ellipsoids["unverified"] is None
    assert ellipsoids["moved away"].scale == pytest.approx([3 * 0.1 / 3**0.5 / FRAME.unit] * 3)


def test_each_stage_is_shown_from_its_own_pose_and_the_map_in_each_kind(panel: QueryPanel) -> None:
    panel._queries["sure"] = replace(panel._queries["sure"], stages={"initial": pose(106), "lm": pose(104)})
    panel.choose("sure")
    assert panel._stage.visible and panel._stage.options == (FINAL, "initial", "lm")
    panel._stage.value = "initial"
    panel._show_stage(move=True)
    found, kind = panel.seen[-1]  # type: ignore[attr-defined]
    assert se3.camera_center(found).tolist() == [3.0, 0.0, 0.0] and kind == "rgb"
    panel._mix.value = 1.0
    panel._kind.value = "depth"
    panel._show_stage(move=False)
    assert (panel.picture == 50).all()
    panel._kind.value = DIFFERENCE
    panel._show_stage(move=False)
    assert (panel.picture == colorize_difference(panel._photo, np.full_like(panel._photo, 100))).all()
    panel.choose(NONE)
    assert not panel._stage.visible and not panel._kind.visible


def test_matches_are_lines_to_the_points_of_the_map_and_dots_on_the_photo(panel: QueryPanel) -> None:
    matches = Matches(
        np.array([[8.0, 8.0], [40.0, 40.0]]),
        np.array([[104.0, 0.0, 2.0], [106.0, 0.0, 2.0]]),
        np.array([True, False]),
    )
    panel._queries["sure"] = replace(panel._queries["sure"], matches=matches)
    panel.choose("sure")
    assert panel._lines.points.tolist() == [[[2, 0, 0], [2, 0, 1]], [[2, 0, 0], [3, 0, 1]]]
    assert panel._lines.colors[:, 0].tolist() == [list(INLIER), list(OUTLIER)]
    assert "2, of them 1 inliers" in panel._text.content
    inlier, outlier = panel._dotted[8, 8], panel._dotted[40, 40]
    assert inlier[1] > inlier[0] and outlier[0] > outlier[1]
    panel.choose("moved away")
    assert panel._lines is None


def test_matches_are_hidden_at_the_pose_of_a_stage_beside_the_final_one(panel: QueryPanel) -> None:
    matches = Matches(np.zeros((1, 2)), np.zeros((1, 3)), np.ones(1, bool))
    stages = {"initial": pose(106), "lm": pose(104)}
    panel._queries["sure"] = replace(panel._queries["sure"], matches=matches, stages=stages)
    panel.choose("sure")
    assert panel._lines.visible
    panel._stage.value = "initial"
    panel._show_stage(move=True)
    assert not panel._lines.visible
    panel.choose("sure")
    assert panel._lines.visible


def test_an_added_query_takes_the_place_of_one_of_its_name_and_is_chosen(panel: QueryPanel) -> None:
    again = replace(panel._queries["sure"], cam_from_world=pose(102))
    panel.add(again)
    panel.add(replace(again, name="new"))
    assert panel._choice.value == "new" and panel._choice.options[-1] == "new"
    assert len(panel._queries) == len(panel._shapes) == 4
    assert panel._shapes["sure"].frustum.position.tolist() == [1.0, 0.0, 0.0]


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
