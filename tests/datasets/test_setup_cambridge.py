"""setup_cambridge.py against a mirror that serves archives of upstream's structure."""

import io
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gsplatloc.datasets.cambridge import read_dataset_file, setup_scene
from gsplatloc.datasets.command import SetupOptions
from gsplatloc.datasets.visual_sfm import read_nvm
from gsplatloc.scene import read_scene
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from tests.datasets.commands import run_python

HEADER = "Visual Landmark Dataset V1\nImageFile, Camera Position [X, Y, Z, W, P, Q, R]\n\n"
TRAIN = "seq1/frame00001.png 1.5 2.5 3.5 0.5 0.5 0.5 0.5\nseq1/frame00002.png 20000.0 0 0 1 0 0 0\n"
TEST = "seq2/frame00001.png 0 0 1 1 0 0 0\nseq2/frame00009.png 0 0 1 1 0 0 0\n"
NVM = """NVM_V3

3
seq1/frame00001.jpg\t1600.0 1 0 0 0 0 0 0 -0.05 0
seq1/frame00002.jpg\t1610.0 1 0 0 0 0 0 0 -0.05 0
seq2/frame00001.jpg\t1620.0 1 0 0 0 0 0 0 -0.05 0

3
1.5 -2.5 3.25 10 20 30 2 0 5 1.5 2.5 1 6 3.5 4.5
0 0 5000 1 2 3 1 0 7 0.5 0.5
4 5 6 255 0 128 1 2 8 -0.5 -0.5

0
"""


@pytest.fixture
def upstream(mirror):  # type: ignore[no-untyped-def]
    """The mirror with ShopFacade on it; seq2 stands upright."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, shape in (
            ("seq1/frame00001", (1080, 1920)),
            ("seq1/frame00002", (1080, 1920)),
            ("seq2/frame00001", (1920, 1080)),
        ):
            image = np.zeros((*shape, 3), np.uint8)
            archive.writestr(f"ShopFacade/{name}.png", cv2.imencode(".png", image)[1].tobytes())
        archive.writestr("ShopFacade/dataset_train.txt", HEADER + TRAIN)
        archive.writestr("ShopFacade/dataset_test.txt", HEADER + TEST)
        archive.writestr("ShopFacade/reconstruction.nvm", NVM)
        archive.writestr("ShopFacade/videos/seq1.mp4", b"a film")
    mirror.put("cambridge/251336/ShopFacade.zip", buffer.getvalue())
    return mirror


def options(upstream, tmp_path: Path) -> SetupOptions:  # type: ignore[no-untyped-def]
    return SetupOptions(output=tmp_path / "out", yes=True, mirror=upstream.address)


def test_images_and_focal_lengths_shrink_to_480_on_the_short_side(upstream, tmp_path: Path) -> None:
    scene = read_scene(setup_scene(options(upstream, tmp_path), "ShopFacade"))
    lying, upright = scene.train[0], scene.test[0]
    assert (lying.camera.width, lying.camera.height) == (853, 480)
    assert (upright.camera.width, upright.camera.height) == (480, 853)
    assert lying.camera.fx == pytest.approx(1600 * 480 / 1080)
    assert upright.camera.fx == pytest.approx(1620 * 480 / 1080)
    assert lying.load_image().shape == (480, 853, 3)


def test_names_are_those_of_ace(upstream, tmp_path: Path) -> None:
    folder = setup_scene(options(upstream, tmp_path), "ShopFacade")
    assert folder.name == "Cambridge_ShopFacade"
    files = sorted(path.relative_to(folder / "train").as_posix() for path in (folder / "train").rglob("*.*"))
    stem = "seq1_frame00001"
    assert files == [f"calibration/{stem}.txt", f"poses/{stem}.txt", f"rgb/{stem}.png"]


def test_the_listed_position_is_the_cameras_centre(upstream, tmp_path: Path) -> None:
    view = read_scene(setup_scene(options(upstream, tmp_path), "ShopFacade")).train[0]
    assert se3.camera_center(view.cam_from_world).tolist() == pytest.approx([1.5, 2.5, 3.5])
    rotation = se3.rotation_from_quaternion(torch.full((4,), 0.5, dtype=torch.float64))
    torch.testing.assert_close(view.cam_from_world[:3, :3], rotation)


def test_far_poses_missing_images_and_far_points_are_counted_and_dropped(
    upstream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = read_scene(setup_scene(options(upstream, tmp_path), "ShopFacade"))
    printed = capsys.readouterr().out
    assert (len(scene.train), len(scene.test)) == (1, 1)
    assert "left out 1 train images that have poses beyond 10000 m" in printed
    assert "left out 1 test images that are not in the archive" in printed
    assert "left out 1 points" in printed
    assert scene.points is not None
    assert scene.points.positions.tolist() == [[1.5, -2.5, 3.25], [4, 5, 6]]
    assert scene.points.colors.tolist() == [[10, 20, 30], [255, 0, 128]]


def test_a_second_run_asks_for_nothing(upstream, tmp_path: Path) -> None:
    setup_scene(options(upstream, tmp_path), "ShopFacade")
    upstream.requests.clear()
    setup_scene(options(upstream, tmp_path), "ShopFacade")
    assert upstream.requests == []


@pytest.mark.parametrize("content", ["", "PLY\n", NVM[:220], NVM.replace("1600.0", "wide")])
def test_a_damaged_nvm_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "reconstruction.nvm"
    path.write_text(content)
    with pytest.raises(GSplatLocError, match=r"reconstruction\.nvm"):
        read_nvm(path)


def test_the_command_runs(upstream, tmp_path: Path) -> None:
    words = ["--scenes", "ShopFacade", "--yes", "--mirror", upstream.address, "--output", tmp_path]
    result = run_python("datasets/setup_cambridge.py", *words)
    assert result.returncode == 0, result.stderr
    assert len(read_scene(tmp_path / "Cambridge_ShopFacade").train) == 1


@pytest.mark.parametrize("numbers", ["nan 2 3 1 0 0 0", "1 2 3 0 0 0 0", "1 2 inf 1 0 0 0", "1 2 3 1 0 0"])
def test_a_pose_that_is_none_is_a_users_error(tmp_path: Path, numbers: str) -> None:
    (tmp_path / "dataset_train.txt").write_text(f"a\nb\n\nseq1/frame00001.png {numbers}\n")
    with pytest.raises(GSplatLocError, match="dataset_train.txt"):
        read_dataset_file(tmp_path / "dataset_train.txt")
