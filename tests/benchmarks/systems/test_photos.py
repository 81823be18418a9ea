"""Maps of photos and a video beside known poses: alignment, figures, and the table."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.harness.measuring import Cost
from benchmarks.harness.results import read_rows
from benchmarks.systems import photos
from gsplatloc.localization.io.poses import PoseRecord, write_poses
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import View
from gsplatloc.utils import se3
from gsplatloc.utils.colmap import pycolmap

SCALE = 0.25  # of the map's unit
MOVED = se3.se3_exp(torch.tensor([1.0, -2, 3, 0.4, 0.5, -0.6], dtype=torch.float64))


def in_map(pose: torch.Tensor) -> torch.Tensor:
    """A true pose in the coordinates of a map of another scale, place and direction."""
    moved = pose @ MOVED
    moved[:3, 3] *= SCALE
    return moved


@pytest.fixture
def views(room_scene: Path) -> list[View]:
    return read_scene(room_scene).train


def test_alignment_finds_the_similarity_of_the_map(views: list[View]) -> None:
    truth = {view.name: view.cam_from_world for view in views}
    scale, motion, errors = photos.aligned({name: in_map(pose) for name, pose in truth.items()}, truth)
    assert scale == pytest.approx(1 / SCALE) and errors.max() < 1e-9
    torch.testing.assert_close(motion, MOVED, atol=1e-9, rtol=0)


def test_errors_are_in_the_unit_of_the_truth(views: list[View]) -> None:
    truth = {view.name: view.cam_from_world for view in views}
    ours = {name: in_map(pose) for name, pose in truth.items()}
    worst = views[3].name
    ours[worst][:3, 3] += torch.tensor([0.0, 0.0, 0.05 * SCALE], dtype=torch.float64)
    errors = photos.aligned(ours, truth)[2]
    assert 0.03 < errors.max() < 0.05
    assert sorted(truth)[int(errors.argmax())] == worst


def write_model(folder: Path, views: list[View]) -> None:
    """A COLMAP model of the views in the map's coordinates, with a point that is seen 3 pixels beside it."""
    model = pycolmap.Reconstruction()
    camera = views[0].camera
    model.add_camera_with_trivial_rig(
        pycolmap.Camera(
            model="PINHOLE", width=camera.width, height=camera.height,
            params=[camera.fx, camera.fy, camera.cx, camera.cy], camera_id=1,
        )
    )  # fmt: skip
    track = pycolmap.Track()
    for number, view in enumerate(views, start=1):
        pose = in_map(view.cam_from_world).numpy()
        point = pose[:3, :3].T @ (np.array([0, 0, 2.0]) - pose[:3, 3])
        if number == 1:
            seen = point
        image = pycolmap.Image(name=view.name, camera_id=1, image_id=number)
        image.points2D = pycolmap.Point2DList([pycolmap.Point2D(_shown(camera, pose, seen) + (3.0, 0.0))])
        rigid = pycolmap.Rigid3d(pycolmap.Rotation3d(pose[:3, :3]), pose[:3, 3])
        model.add_image_with_trivial_frame(image, rigid)
        track.add_element(number, 0)
    model.add_point3D(seen, track, np.zeros(3, np.uint8))
    folder.mkdir(parents=True)
    model.write_binary(str(folder))


def _shown(camera: object, pose: np.ndarray, point: np.ndarray) -> np.ndarray:
    x, y, z = pose[:3, :3] @ point + pose[:3, 3]
    return np.array([x / z * camera.fx + camera.cx, y / z * camera.fy + camera.cy])  # type: ignore[attr-defined]


def test_a_case_is_mapped_measured_and_published(
    views: list[View], tmp_path: Path, pages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped, left_out = views[:3], views[3:5]
    started: list[list[str]] = []

    def run_gsplatloc(words: list[object], log: Path) -> Cost:
        started.append([str(word) for word in words])
        folder = words[words.index("-m") + 1]
        assert isinstance(folder, Path)
        if words[0] == "map":
            write_model(folder / "scene" / "sparse" / "0", mapped)
            log.write_text(
                "posing     5 s (features 2 s, matching 3 s)\ntime       60 s (features 4 s, training 56 s)\n"
            )
        else:  # one of two is found
            (folder / "queries").mkdir()
            name = f"{Path(left_out[0].name).stem}.png"
            write_poses(
                folder / "queries" / "poses.txt", [PoseRecord(name, in_map(left_out[0].cam_from_world))]
            )
        return Cost(90.0, 1000)

    truth = {view.name: view.cam_from_world for view in [*mapped, left_out[1]]}  # one is not posed
    case = photos.Case(tmp_path / "film.mp4", truth, 2.0, None, left_out)
    monkeypatch.setattr(photos, "run_gsplatloc", run_gsplatloc)
    monkeypatch.setattr(photos, "CASES", {"film": lambda *_: case})
    results = tmp_path / "photos.json"
    words = f"--cases film --output {tmp_path / 'work'} --results {results} --no-publish --iterations 7"
    monkeypatch.setattr("sys.argv", ["photos", *words.split()])
    photos.main()
    (row,) = read_rows(results)
    assert started[0][-4:] == ["--frames", "4", "--iterations", "7"]
    assert (row["posed"], row["count"], row["seconds"]) == (3, 4, 90.0)
    assert row["steps"] == {"features": 6.0, "matching": 3.0, "training": 56.0}
    assert row["center_max"] < 1e-6 and row["reprojection_px"] == pytest.approx(3.0)
    assert row["queries"] == 2 and row["queries_m"] is None  # the median of one error and one failure
    photos.main()
    assert len(started) == 2  # not measured again
    photos.publish_photos([row | {"queries_m": 0.004, "queries_deg": 0.12}], pages)
    text = (pages / "docs" / "page.md").read_text()
    assert "| film | 3 of 4 | 0.000 % | 0.000 % | 3.000 px | – | – | 0.40 cm / 0.120° | 1.5 (" in text


def test_an_unknown_case_is_a_users_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["photos", "--cases", "none", "--results", str(tmp_path / "r.json")])
    with pytest.raises(photos.GSplatLocError, match="expected --cases of photos video, found none"):
        photos.main()
