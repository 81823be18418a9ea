"""Layout 1: train/ and test/ folders, paired by name."""

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.scene.cameras import SparsePoints
from gsplatloc.scene.readers.point_cloud import write_points
from gsplatloc.scene.readers.poses import read_numbers
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError

WIDTH, HEIGHT = 64, 48


def pose(seed: int) -> np.ndarray:
    """A random camera-to-world matrix."""
    generator = torch.Generator().manual_seed(seed)
    return se3.se3_exp(torch.randn(6, generator=generator, dtype=torch.float64)).numpy()


def add(
    root: Path, split: str, stem: str, seed: int = 0, calibration: str = "60.5\n", plain: bool = False
) -> None:
    """One posed image, named as 7-Scenes or (plain) as Cambridge names it."""
    color, infix, calibrated = ("", "", "") if plain else (".color", ".pose", ".calibration")
    folder = root / split
    for name in ("rgb", "poses", "calibration"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    image = np.full((HEIGHT, WIDTH, 3), seed, np.uint8)
    assert cv2.imwrite(str(folder / "rgb" / f"{stem}{color}.png"), image)
    np.savetxt(folder / "poses" / f"{stem}{infix}.txt", pose(seed))
    (folder / "calibration" / f"{stem}{calibrated}.txt").write_text(calibration)


def test_views_pair_by_name_with_their_own_pose_and_calibration(tmp_path: Path) -> None:
    for seed, stem in enumerate(("seq-01-frame-000002", "seq-01-frame-000000")):
        add(tmp_path, "train", stem, seed + 1, calibration=f"{60 + seed}\n")
    add(tmp_path, "test", "seq-02-frame-000000", 7)
    scene = read_scene(tmp_path)
    assert [view.name[-16:] for view in scene.train] == ["000000.color.png", "000002.color.png"]
    assert [view.camera.fx for view in scene.train] == [61.0, 60.0]
    assert [int(view.load_image()[0, 0, 0]) for view in scene.train] == [2, 1]
    torch.testing.assert_close(se3.inverse(scene.train[0].cam_from_world), torch.from_numpy(pose(2)))
    assert [view.name for view in scene.test] == ["seq-02-frame-000000.color.png"]


def test_plain_names_of_the_cambridge_setup_pair_too(tmp_path: Path) -> None:
    add(tmp_path, "train", "seq1_frame00001", 3, plain=True)
    assert [view.name for view in read_scene(tmp_path).train] == ["seq1_frame00001.png"]


def test_one_focal_length_puts_the_principal_point_at_the_centre(tmp_path: Path) -> None:
    add(tmp_path, "train", "a")
    camera = read_scene(tmp_path).train[0].camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (60.5, 60.5, WIDTH / 2, HEIGHT / 2)


def test_a_calibration_matrix_is_used_whole_and_scaled_with_the_image(tmp_path: Path) -> None:
    add(tmp_path, "train", "a", calibration="60 0 30\n0 62 25\n0 0 1\n")
    camera = read_scene(tmp_path, SceneOptions(resolution=2)).train[0].camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (30.0, 31.0, 15.0, 12.5)
    assert (camera.width, camera.height) == (WIDTH // 2, HEIGHT // 2)


def test_images_are_decoded_only_when_asked_for(tmp_path: Path) -> None:
    add(tmp_path, "train", "a")
    path = read_scene(tmp_path).train[0].image_path
    path.write_bytes(path.read_bytes()[:60])  # the header survives, the pixels do not
    view = read_scene(tmp_path).train[0]
    with pytest.raises(GSplatLocError, match=r"a\.color\.png"):
        view.load_image()


def test_depth_pairs_by_name_and_may_be_absent(tmp_path: Path) -> None:
    for stem in ("a", "b"):
        add(tmp_path, "train", stem)
    stored = np.full((HEIGHT, WIDTH), 2500, np.uint16)
    stored[0, :2] = 0, 65535
    (tmp_path / "train" / "depth").mkdir()
    assert cv2.imwrite(str(tmp_path / "train" / "depth" / "b.depth.png"), stored)
    first, second = read_scene(tmp_path).train
    assert first.load_depth is None
    assert second.load_depth is not None
    depth = second.load_depth()
    assert depth[0, :3].tolist() == [0.0, 0.0, 2.5]


@pytest.mark.parametrize("folder", ["poses", "calibration"])
def test_a_missing_partner_is_named(tmp_path: Path, folder: str) -> None:
    for stem in ("here", "gone"):
        add(tmp_path, "train", stem)
    next((tmp_path / "train" / folder).glob("gone*")).unlink()
    with pytest.raises(GSplatLocError, match=f"gone in .*{folder}"):
        read_scene(tmp_path)


def test_a_pose_that_is_not_finite_is_skipped_with_a_count(tmp_path: Path) -> None:
    for stem in ("good", "lost"):
        add(tmp_path, "train", stem)
    (tmp_path / "train" / "poses" / "lost.pose.txt").write_text("-INF " * 16)
    scene = read_scene(tmp_path)
    assert [view.name for view in scene.train] == ["good.color.png"]
    assert "left out 1 (their poses are not finite)" in scene.report


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 0 0 0\n0 1 0 0\n", "found 8 numbers"),
        ("one two three", "expected numbers"),
        ("-1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", "reflection"),
        ("2 0 0 0\n0 2 0 0\n0 0 2 0\n0 0 0 1\n", "from the identity"),
    ],
)
def test_a_malformed_pose_is_explained(tmp_path: Path, content: str, message: str) -> None:
    add(tmp_path, "train", "a")
    (tmp_path / "train" / "poses" / "a.pose.txt").write_text(content)
    with pytest.raises(GSplatLocError, match=message):
        read_scene(tmp_path)


def test_a_slightly_inexact_rotation_becomes_exact(tmp_path: Path) -> None:
    add(tmp_path, "train", "a")
    inexact = pose(4)
    inexact[:3, :3] *= 1.001
    np.savetxt(tmp_path / "train" / "poses" / "a.pose.txt", inexact)
    rotation = read_scene(tmp_path).train[0].cam_from_world[:3, :3]
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("calibration", ["0\n", "nan\n", "500 500\n", ""])
def test_a_senseless_calibration_is_refused(tmp_path: Path, calibration: str) -> None:
    add(tmp_path, "train", "a", calibration=calibration)
    with pytest.raises(GSplatLocError, match=r"a\.calibration\.txt"):
        read_scene(tmp_path)


def test_names_used_by_both_splits_get_the_split_in_front(tmp_path: Path) -> None:
    add(tmp_path, "train", "a")
    add(tmp_path, "test", "a")
    scene = read_scene(tmp_path)
    assert [view.name for view in scene.train + scene.test] == ["train/a.color.png", "test/a.color.png"]


def test_points_beside_the_splits_are_read(tmp_path: Path) -> None:
    add(tmp_path, "train", "a")
    positions = np.random.default_rng(0).normal(size=(5, 3))
    colors = np.arange(15, dtype=np.uint8).reshape(5, 3)
    write_points(tmp_path / "points3D.ply", SparsePoints(positions, colors))
    points = read_scene(tmp_path).points
    assert points is not None
    np.testing.assert_array_equal(points.positions, positions)
    np.testing.assert_array_equal(points.colors, colors)


def test_redkitchen_is_read_whole_and_lazily(shared_data: Path) -> None:
    scene = read_scene(shared_data / "pgt_7scenes_redkitchen")
    assert (len(scene.train), len(scene.test), scene.points) == (175, 60, None)
    assert scene.train[0].camera.fx == 525.505
    assert scene.train[0].load_image().shape == (480, 640, 3)


def test_a_number_of_a_million_digits_is_read_in_no_time(tmp_path: Path) -> None:
    (tmp_path / "numbers.txt").write_text("1.5 " + "9" * 1_000_000 + " -1.#IND")
    started = time.process_time()
    found = read_numbers(tmp_path / "numbers.txt")
    assert time.process_time() - started < 2
    np.testing.assert_array_equal(found, [1.5, np.inf, np.nan])
