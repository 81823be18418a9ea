"""setup_7scenes.py against a mirror that serves archives of upstream's structure."""

import tempfile
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch

from gsplatloc.datasets.command import SetupOptions
from gsplatloc.datasets.seven_scenes import COLOR_FROM_DEPTH, setup_scene
from gsplatloc.scene import read_scene
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from tests.datasets.commands import run_python
from tests.datasets.files import png, zipped

FRAMES = 2
SEQUENCES = {"train": ["seq-01"], "test": ["seq-02", "seq-10"]}
PGT_FOCAL_LENGTH = 531.25


def pose(sequence: str, frame: int) -> np.ndarray:
    """The depth camera's camera-to-world of the data set."""
    generator = torch.Generator().manual_seed(int(sequence[-2:]) * 100 + frame)
    return se3.se3_exp(torch.randn(6, generator=generator, dtype=torch.float64)).numpy()


def sequence_archive(sequence: str) -> bytes:
    entries: dict[str, bytes | str] = {f"{sequence}/": ""}
    depth = np.full((480, 640), 2000, np.uint16)
    depth[0, 0], depth[0, 1] = 0, 65535
    for frame in range(FRAMES):
        stem = f"{sequence}/frame-{frame:06d}"
        entries[f"{stem}.color.png"] = png(np.full((480, 640, 3), 10 * frame, np.uint8))
        entries[f"{stem}.depth.png"] = png(depth)
        rows = "\n".join("\t ".join(f"{value: .7e}" for value in row) for row in pose(sequence, frame))
        entries[f"{stem}.pose.txt"] = rows + "\n"
    return zipped(entries)


def pgt_line(sequence: str, frame: int) -> str:
    """Pseudo ground truth whose camera centre is the data set's plus (0, 0, frame + 1)."""
    world_from_cam = torch.from_numpy(pose(sequence, frame)).clone()
    world_from_cam[2, 3] += frame + 1
    cam_from_world = se3.inverse(world_from_cam)
    numbers = [
        *se3.quaternion_from_rotation(cam_from_world[:3, :3]).tolist(),
        *cam_from_world[:3, 3].tolist(),
    ]
    return " ".join(
        [f"{sequence}/frame-{frame:06d}.color.png", *map(str, numbers), str(PGT_FOCAL_LENGTH + frame)]
    )


def model_archive() -> bytes:
    """The reference models of heads: `sfm_gt` holds one point, `old_gt_refined` two."""
    entries: dict[str, bytes | str] = {}
    for name, count in (("sfm_gt", 1), ("old_gt_refined", 2)):
        model = pycolmap.Reconstruction()
        for index in range(count):
            model.add_point3D(np.array([index, 1.5, 2.5]), pycolmap.Track(), np.array([1, 2, 3], np.uint8))
        entries |= written(model, f"7scenes_reference_models/heads/{name}")
    return zipped(entries)


def written(model: pycolmap.Reconstruction, prefix: str) -> dict[str, bytes | str]:
    with tempfile.TemporaryDirectory() as name:
        model.write_binary(name)
        return {f"{prefix}/{file.name}": file.read_bytes() for file in Path(name).iterdir()}


@pytest.fixture
def upstream(mirror):  # type: ignore[no-untyped-def]
    """The mirror with the scene `heads` on it."""
    entries: dict[str, bytes | str] = {
        "heads/TrainSplit.txt": "sequence1\r\n",
        "heads/TestSplit.txt": "sequence2\r\nsequence10\r\n",
    }
    for split, sequences in SEQUENCES.items():
        for sequence in sequences:
            entries[f"heads/{sequence}.zip"] = sequence_archive(sequence)
        lines = [pgt_line(sequence, frame) for sequence in sequences for frame in range(FRAMES)]
        mirror.put(f"pgt/sfm/7scenes/heads_{split}.txt", "\n".join(lines).encode())
    mirror.put("7scenes/heads.zip", zipped(entries))
    mirror.put("7scenes_models/7scenes_reference_models.zip", model_archive())
    return mirror


def options(upstream, tmp_path: Path) -> SetupOptions:  # type: ignore[no-untyped-def]
    return SetupOptions(output=tmp_path / "out", yes=True, mirror=upstream.address)


def read_pose(folder: Path, split: str, stem: str) -> np.ndarray:
    return np.loadtxt(folder / split / "poses" / f"{stem}.pose.txt")


def read_focal_length(folder: Path, split: str, stem: str) -> float:
    return float((folder / split / "calibration" / f"{stem}.calibration.txt").read_text())


def test_original_poses_are_the_data_sets(upstream, tmp_path: Path) -> None:
    folder = setup_scene(options(upstream, tmp_path), "heads", "original", "none")
    assert folder.name == "7scenes_heads"
    found = read_pose(folder, "test", "seq-10-frame-000001")
    np.testing.assert_allclose(found, pose("seq-10", 1), atol=1e-6)
    assert read_focal_length(folder, "test", "seq-10-frame-000001") == 525.0


def test_calibrated_poses_are_the_colour_cameras(upstream, tmp_path: Path) -> None:
    folder = setup_scene(options(upstream, tmp_path), "heads", "calibrated", "none")
    found = read_pose(folder, "train", "seq-01-frame-000000")
    # a point in the depth camera is the same world point through either pose
    point = np.array([0.3, -0.2, 1.7, 1.0])
    np.testing.assert_allclose(found @ (COLOR_FROM_DEPTH @ point), pose("seq-01", 0) @ point, atol=1e-6)
    assert read_focal_length(folder, "train", "seq-01-frame-000000") == 525.0


def test_pseudo_ground_truth_brings_its_own_poses_and_focal_lengths(upstream, tmp_path: Path) -> None:
    folder = setup_scene(options(upstream, tmp_path), "heads", "pgt", "none")
    assert folder.name == "pgt_7scenes_heads"
    expected = pose("seq-02", 1)
    expected[2, 3] += 2
    np.testing.assert_allclose(read_pose(folder, "test", "seq-02-frame-000001"), expected, atol=1e-9)
    assert read_focal_length(folder, "test", "seq-02-frame-000001") == PGT_FOCAL_LENGTH + 1


@pytest.mark.parametrize(("poses", "points"), [("original", 2), ("calibrated", 2), ("pgt", 1)])
def test_points_come_from_the_model_in_the_frame_of_the_poses(
    upstream, tmp_path: Path, poses: str, points: int
) -> None:
    scene = read_scene(setup_scene(options(upstream, tmp_path), "heads", poses, "none"))  # type: ignore[arg-type]
    assert scene.points is not None and len(scene.points) == points


def test_the_scene_reads_back_with_its_split(upstream, tmp_path: Path) -> None:
    scene = read_scene(setup_scene(options(upstream, tmp_path), "heads", "pgt", "none"))
    assert [view.name for view in scene.train] == [
        f"seq-01-frame-{frame:06d}.color.png" for frame in range(2)
    ]
    assert [view.name[:6] for view in scene.test] == ["seq-02", "seq-02", "seq-10", "seq-10"]
    assert scene.train[1].camera.fx == PGT_FOCAL_LENGTH + 1


def test_depth_is_written_as_the_colour_camera_sees_it(upstream, tmp_path: Path) -> None:
    scene = read_scene(setup_scene(options(upstream, tmp_path), "heads", "calibrated", "calibrated"))
    assert scene.train[0].load_depth is not None
    depth = scene.train[0].load_depth()
    assert depth[240, 320] == pytest.approx(2.0, abs=0.01)
    assert depth[0, 0] == 0  # the depth camera's wider picture was cut, its invalid codes dropped
    assert depth.max() < 2.1


def test_missing_models_cost_one_line_and_nothing_else(
    upstream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (upstream.root / "7scenes_models" / "7scenes_reference_models.zip").unlink()
    folder = setup_scene(options(upstream, tmp_path), "heads", "pgt", "none")
    assert read_scene(folder).points is None
    assert "no SfM points" in capsys.readouterr().out


def test_a_second_run_asks_for_nothing_and_changes_nothing(upstream, tmp_path: Path) -> None:
    folder = setup_scene(options(upstream, tmp_path), "heads", "pgt", "none")
    upstream.requests.clear()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    setup_scene(options(upstream, tmp_path), "heads", "pgt", "none")
    assert upstream.requests == []
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_other_poses_use_the_archive_that_is_there(upstream, tmp_path: Path) -> None:
    setup_scene(options(upstream, tmp_path), "heads", "original", "none")
    setup_scene(options(upstream, tmp_path), "heads", "pgt", "none")
    assert [path for path, _ in upstream.requests].count("/7scenes/heads.zip") == 1


def test_a_folder_made_with_other_settings_is_not_replaced(upstream, tmp_path: Path) -> None:
    setup_scene(options(upstream, tmp_path), "heads", "original", "none")
    with pytest.raises(GSplatLocError, match="move it away"):
        setup_scene(options(upstream, tmp_path), "heads", "calibrated", "none")


def test_a_failed_setup_leaves_no_scene_and_the_next_one_succeeds(upstream, tmp_path: Path) -> None:
    lost = upstream.root / "pgt" / "sfm" / "7scenes" / "heads_test.txt"
    content = lost.read_bytes()
    lost.unlink()
    with pytest.raises(GSplatLocError, match="heads_test"):
        setup_scene(options(upstream, tmp_path), "heads", "pgt", "none")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".downloads"]
    lost.write_bytes(content)
    assert len(read_scene(setup_scene(options(upstream, tmp_path), "heads", "pgt", "none")).test) == 4


def test_images_without_pseudo_ground_truth_are_left_out_with_a_count(
    upstream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream.put("pgt/sfm/7scenes/heads_train.txt", pgt_line("seq-01", 0).encode())
    assert len(read_scene(setup_scene(options(upstream, tmp_path), "heads", "pgt", "none")).train) == 1
    assert "left out 1 train images" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["datasets/setup_7scenes.py"], ["-m", "gsplatloc", "setup", "7scenes"]])
def test_the_script_and_the_subcommand_run(upstream, tmp_path: Path, command: list[str]) -> None:
    arguments = ["--scenes", "heads", "--poses", "pgt", "--yes", "--mirror", upstream.address]
    result = run_python(*command, *arguments, "--output", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "pgt_7scenes_heads" / "train" / "rgb").is_dir()


def test_terms_that_nobody_can_accept_are_a_usage_error() -> None:
    result = run_python("datasets/setup_7scenes.py", "--scenes", "heads")
    assert result.returncode == 2
    assert "--yes" in result.stderr


def test_an_unreachable_mirror_is_a_users_error_on_one_line(mirror, tmp_path: Path) -> None:
    words = ["--scenes", "heads", "--yes", "--mirror", mirror.address, "--output", tmp_path]
    result = run_python("datasets/setup_7scenes.py", *words)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
