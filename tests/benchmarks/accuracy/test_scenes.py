"""Scene variants and changed images of the accuracy benchmarks, and what these refuse to report."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.accuracy.scenes import (
    CONDITIONS,
    SceneVariant,
    Shot,
    check_unseen,
    is_metric,
    link_part,
    link_training,
    under,
    write_posed_folders,
)
from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.scene.cameras import Camera, Scene, View
from gsplatloc.scene.map_config import write_cameras
from gsplatloc.utils.errors import GSplatLocError


def view(name: str, x: float) -> View:
    pose = torch.eye(4, dtype=torch.float64)
    pose[0, 3] = x
    return View(
        name, Camera(8, 6, 7.0, 7.0, 4.0, 3.0), pose, Path(name), lambda: np.zeros((6, 8, 3), np.uint8)
    )


def test_a_scene_may_be_a_part() -> None:
    assert SceneVariant.parse("kitchen:first60") == SceneVariant("kitchen", 60)
    assert SceneVariant.parse("kitchen:first60").slug == "kitchen-first60"
    assert SceneVariant.parse("kitchen").slug == "kitchen"


@pytest.mark.parametrize("text", ["kitchen:last60", "kitchen:first0", "kitchen:first101", ":first60"])
def test_another_part_is_an_error(text: str) -> None:
    with pytest.raises(GSplatLocError, match="NAME:first60"):
        SceneVariant.parse(text)


def test_a_part_links_the_first_training_images_and_all_test_images(tmp_path: Path) -> None:
    source = tmp_path / "scene"
    for split, count in (("train", 5), ("test", 2)):
        for index in range(count):
            for kind, suffix in (("rgb", "color.png"), ("poses", "pose.txt")):
                path = source / split / kind / f"frame-{index:06d}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(split)
    linked = link_part(source, 60, tmp_path / "part")
    assert [path.name[:12] for path in sorted((linked / "train" / "rgb").iterdir())] == [
        "frame-000000", "frame-000001", "frame-000002"
    ]  # fmt: skip
    assert len(list((linked / "train" / "poses").iterdir())) == 3
    assert len(list((linked / "test" / "rgb").iterdir())) == 2
    assert (linked / "test" / "rgb" / "frame-000001.color.png").read_text() == "test"


def test_only_a_map_made_of_test_images_is_refused(tmp_path: Path) -> None:
    scene = Scene("room", tmp_path, [view("a", 0.0), view("b", 1.0)], [view("c", 0.5)])
    write_cameras(tmp_path, scene.train)
    check_unseen(scene, tmp_path)
    write_cameras(tmp_path, [*scene.train, *scene.test])
    with pytest.raises(GSplatLocError, match="without the test images, found c"):
        check_unseen(scene, tmp_path)


def test_depth_of_a_layout_without_posed_folders_is_mapped_with_its_images(tmp_path: Path) -> None:
    depth = np.full((6, 8), 1.25, np.float32)
    views = [replace(view("a", 0.0), load_depth=lambda: depth), view("b", 1.0)]
    link_training(tmp_path / "tum", views, tmp_path / "scene")
    write_posed_folders(tmp_path / "scene" / "test", [("query", views[1])])
    first, second = read_scene(tmp_path / "scene", SceneOptions()).train
    assert first.load_depth is not None and np.allclose(first.load_depth(), depth)
    assert second.load_depth is None


@pytest.mark.parametrize(
    "scene, metric", [("tum_livingroom1", True), ("room_seed5", True), ("nerf_fox", False), ("desk", False)]
)
def test_scenes_in_metres_are_known_by_their_names(scene: str, metric: bool) -> None:
    assert is_metric(scene) is metric


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
