"""Tables of RGB-D sequences, on folders of Replica's and TUM's structure."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gsplatloc.datasets.options import RoomOptions
from gsplatloc.datasets.room import make_room, room_camera
from gsplatloc.utils import se3
from tests.reproduction.conftest import Command

OPTIONS = RoomOptions(160, 128, train=6, test=0, arc=0.02, supersampling=1)
REPLICA_SCALE, TUM_SCALE = 6553.5, 5000.0


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Image, depth in metres and camera-to-world of every frame."""
    folder = tmp_path_factory.mktemp("frames")
    make_room(folder, OPTIONS)
    found = []
    for path in sorted((folder / "train" / "rgb").iterdir()):
        stem = path.name.removesuffix(".color.png")
        depth = cv2.imread(str(folder / "train" / "depth" / f"{stem}.depth.png"), cv2.IMREAD_UNCHANGED)
        pose = np.loadtxt(folder / "train" / "poses" / f"{stem}.pose.txt")
        found.append((cv2.imread(str(path)), depth / 1000, pose))
    return found


def write_replica(folder: Path, frames: list) -> None:
    camera = room_camera(OPTIONS)
    (folder / "results").mkdir(parents=True)
    for index, (image, depth, _) in enumerate(frames):
        cv2.imwrite(str(folder / "results" / f"frame{index:06d}.jpg"), image)
        scaled = np.rint(depth * REPLICA_SCALE).astype(np.uint16)
        cv2.imwrite(str(folder / "results" / f"depth{index:06d}.png"), scaled)
    rows = [" ".join(repr(float(value)) for value in pose.flatten()) for _, _, pose in frames]
    (folder / "traj.txt").write_text("\n".join(rows) + "\n")
    parameters = {"w": camera.width, "h": camera.height, "fx": camera.fx, "fy": camera.fy,
                  "cx": camera.cx - 0.5, "cy": camera.cy - 0.5, "scale": REPLICA_SCALE}  # fmt: skip
    (folder.parent / "cam_params.json").write_text(json.dumps({"camera": parameters}))


def write_tum(folder: Path, frames: list) -> None:
    camera = room_camera(OPTIONS)
    lines: dict[str, list[str]] = {"rgb": [], "depth": [], "groundtruth": []}
    for index, (image, depth, pose) in enumerate(frames):
        stamp = f"{1305031102 + index / 30:.6f}"
        for kind, picture in (("rgb", image), ("depth", np.rint(depth * TUM_SCALE).astype(np.uint16))):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / kind / f"{stamp}.png"), picture)
            lines[kind].append(f"{stamp} {kind}/{stamp}.png")
        w, x, y, z = se3.quaternion_from_rotation(torch.from_numpy(pose[:3, :3].copy())).tolist()
        lines["groundtruth"].append(" ".join(map(str, [stamp, *pose[:3, 3], x, y, z, w])))
    for kind, text in lines.items():
        (folder / f"{kind}.txt").write_text("# a comment\n" + "\n".join(text) + "\n")
    matrix = f"{camera.fx} {camera.fy} {camera.cx - 0.5} {camera.cy - 0.5}\n"
    (folder / "calibration.txt").write_text(matrix)


@pytest.mark.parametrize(
    ("table", "scene", "place", "write"),
    [
        ("rgbd-replica", "room0", "Replica/room0", write_replica),
        ("rgbd-tum", "freiburg1_desk", "rgbd_dataset_freiburg1_desk", write_tum),
    ],
)
def test_a_sequence_is_tracked_beside_the_published_figures(
    frames: list, reproduce: Command, tmp_path: Path, table: str, scene: str, place: str, write
) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    write(tmp_path / "run" / "data" / place, frames)
    ended = reproduce(tmp_path / "run", table, "--scenes", scene)
    assert ended.code == 0, ended.said
    found = {
        (row["scene"], row["method"]): row
        for row in csv.DictReader((tmp_path / "run/out/figures.csv").open())
    }
    assert float(found[scene, "ours"]["cm"]) < 2 and found[scene, "ours"]["queries"] == "6"
    assert found["average", "SplaTAM"]["cm"] in ("0.36", "5.48")
    page = (tmp_path / "run" / "out" / "table.md").read_text()
    assert "ATE RMSE" in page and "Recall" not in page
