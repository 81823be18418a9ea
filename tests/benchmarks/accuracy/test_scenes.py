"""Scene variants of the accuracy benchmark, and what it refuses to report."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.accuracy.scenes import (
    SceneVariant,
    check_unseen,
    is_metric,
    link_part,
    link_training,
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


def test_a_map_made_of_test_images_is_refused(tmp_path: Path) -> None:
    scene = Scene("room", tmp_path, [view("a", 0.0), view("b", 1.0)], [view("c", 0.5)])
    write_cameras(tmp_path, [*scene.train, *scene.test])
    with pytest.raises(GSplatLocError, match="without the test images, found c"):
        check_unseen(scene, tmp_path)


def test_a_map_of_the_training_images_is_accepted(tmp_path: Path) -> None:
    scene = Scene("room", tmp_path, [view("a", 0.0), view("b", 1.0)], [view("c", 0.5)])
    write_cameras(tmp_path, scene.train)
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
