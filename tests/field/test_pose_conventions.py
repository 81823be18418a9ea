"""Poses in another convention than their layout has, or of other images: what would fit is named."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gsplatloc.arguments.presets import mapping_preset
from gsplatloc.localization.features import Keypoints
from gsplatloc.mapping.pose_check import contradiction, outliers
from gsplatloc.mapping.train import train
from gsplatloc.mapping.triangulation import triangulate
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import PoseConvention, Scene
from gsplatloc.scene.map_config import MapConfig
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from tests.mapping.test_triangulation import arc, cloud, detect

COLMAP = PoseConvention(camera_to_world=False, quaternion="wxyz")
TUM = PoseConvention(quaternion="xyzw")
TRANSFORMS = PoseConvention(opengl_axes=True)
FOLDERS = PoseConvention()


def found_in(scene: Scene, keypoints: list[Keypoints]) -> str | None:
    found = contradiction(scene, keypoints, triangulate(scene.train, keypoints))
    assert found is None or found.certain
    return found and found.text


def scene_of(convention: PoseConvention) -> tuple[Scene, list[Keypoints]]:
    """Cameras about an arc that is tilted, so that no convention is like another, and their keypoints."""
    tilt = se3.se3_exp(torch.tensor([0.3, -0.2, 0.1, 0.5, 0.4, -0.3], dtype=torch.float64))
    points, generator = cloud(), torch.Generator().manual_seed(0)
    shaken = se3.se3_exp(0.2 * torch.randn(7, 6, generator=generator, dtype=torch.float64))
    handheld = [view.with_pose(motion @ view.cam_from_world) for view, motion in zip(arc(), shaken)]
    keypoints = [detect(view, points) for view in handheld]
    views = [view.with_pose(view.cam_from_world @ se3.inverse(tilt)) for view in handheld]
    return Scene("scene", Path(), views, [], convention=convention), keypoints


@pytest.mark.parametrize("expected", [COLMAP, TUM, TRANSFORMS, FOLDERS])
def test_the_convention_that_would_fit_is_named(expected: PoseConvention) -> None:
    scene, keypoints = scene_of(expected)
    for actual in expected.others():
        wrong = [view.with_pose(actual.reread(view.cam_from_world, expected)) for view in scene.train]
        message = found_in(replace(scene, train=wrong), keypoints)
        assert message is not None and "\n" not in message
        assert f"read as {expected}" in message
        assert f"if the poses are {actual}" in message


@pytest.mark.parametrize(
    ("signs", "named"),
    [
        ((-1, 1), "mirrored (left and right"),
        ((1, -1), "mirrored (top and bottom"),
        ((-1, -1), "turned by 180 degrees"),
    ],
)
def test_images_that_were_flipped_without_their_poses_are_named(signs: tuple[int, int], named: str) -> None:
    scene, keypoints = scene_of(FOLDERS)
    size = torch.tensor([scene.train[0].camera.width, scene.train[0].camera.height]).float()
    flip = torch.tensor(signs) < 0
    flipped = [replace(found, xy=torch.where(flip, size - found.xy, found.xy)) for found in keypoints]
    message = found_in(scene, flipped)
    assert message is not None and "\n" not in message
    assert f"fit if the images are {named}" in message


def test_right_poses_are_right_in_every_convention() -> None:
    scene, keypoints = scene_of(TRANSFORMS)
    assert found_in(scene, keypoints) is None


def test_poses_of_other_images_fit_no_convention() -> None:
    scene, keypoints = scene_of(FOLDERS)
    shuffled = [scene.train[i] for i in (3, 0, 6, 1, 5, 2, 4)]
    poses = [view.with_pose(other.cam_from_world) for view, other in zip(scene.train, shuffled)]
    message = found_in(replace(scene, train=poses), keypoints)
    assert message is not None and "that the poses are of these images" in message


def test_one_pose_for_all_images_is_no_panorama() -> None:
    scene, keypoints = scene_of(FOLDERS)
    same = [view.with_pose(scene.train[0].cam_from_world) for view in scene.train]
    message = found_in(replace(scene, train=same), keypoints)
    assert message is not None and "that the poses are of these images" in message


def test_many_tracks_of_wrong_poses_are_warned_of() -> None:
    """Epipolar lines of cameras on a line are the same in both orders; the depth of points tells."""
    scene, keypoints = scene_of(FOLDERS)
    tracks = triangulate(scene.train, keypoints)
    assert len(tracks) > 20 * len(scene.train) and contradiction(scene, keypoints, tracks) is None
    backwards = [a.with_pose(b.cam_from_world) for a, b in zip(scene.train, scene.train[::-1])]
    found = contradiction(replace(scene, train=backwards), keypoints, tracks)
    assert found is not None and not found.certain


def test_images_with_a_wrong_pose_among_right_ones_are_named() -> None:
    scene, keypoints = scene_of(FOLDERS)
    views = list(scene.train)
    tracks = triangulate(views, keypoints)
    assert len(views) >= 7 and outliers(views, tracks) is None
    wrong = se3.se3_exp(torch.tensor([0.5, 1.0, -0.5, 0.6, -0.4, 0.8], dtype=torch.float64))
    views[2] = views[2].with_pose(wrong @ views[2].cam_from_world)
    found = outliers(views, triangulate(views, keypoints))
    assert found is not None and f"1 of {len(views)} images" in found and views[2].name in found


def test_images_without_texture_prove_nothing() -> None:
    """Too few matches for a relative pose: no reason to stop, whatever the poses."""
    scene, keypoints = scene_of(FOLDERS)
    few = [Keypoints(k.xy[:25], k.descriptors[:25], k.scores[:25]) for k in keypoints]
    wrong = [view.with_pose(se3.inverse(view.cam_from_world)) for view in scene.train]
    assert found_in(replace(scene, train=wrong), few) is None
    assert found_in(replace(scene, train=wrong[:1]), keypoints[:1]) is None


def test_images_that_match_wrongly_prove_nothing() -> None:
    """Repeated texture matches anywhere: no relative pose fits."""
    scene, keypoints = scene_of(FOLDERS)
    generator = torch.Generator().manual_seed(1)
    random = [
        Keypoints(k.xy[torch.randperm(len(k.xy), generator=generator)], k.descriptors, k.scores)
        for k in keypoints
    ]
    assert found_in(scene, random) is None


def test_two_right_views_give_no_tracks_and_no_alarm() -> None:
    scene, keypoints = scene_of(FOLDERS)
    assert found_in(replace(scene, train=scene.train[:2]), keypoints[:2]) is None


def test_mapping_stops_unless_told_otherwise(
    room_scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gsplatloc_kernels")
    shutil.copytree(room_scene, tmp_path / "room", ignore=shutil.ignore_patterns("depth", "test"))
    for file in (tmp_path / "room").glob("train/poses/*.txt"):
        np.savetxt(file, np.linalg.inv(np.loadtxt(file)))
    scene, model = read_scene(tmp_path / "room"), tmp_path / "map"
    options = mapping_preset("cpu")
    options = replace(
        options,
        schedule=replace(options.schedule, iterations=1),
        output=replace(options.output, quiet=True),
    )
    config = MapConfig(str(scene.root))
    with pytest.raises(GSplatLocError, match=r"if the poses are world-to-camera with OpenCV.*no_check_poses"):
        train(scene, model, options, config)
    assert not (model / "config.json").exists()
    told = replace(options, initialization=replace(options.initialization, check_poses=False))
    assert train(scene, model, told, config).completed
    said = capsys.readouterr().err
    assert "warning: expected matches of images to fit the poses" in said
