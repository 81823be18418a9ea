"""The plugins of the tutorial work, each as its one file: the page shows the code that runs here."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import gsplatloc
from gsplatloc.datasets.options import RoomOptions
from gsplatloc.datasets.room import make_room
from gsplatloc.localization.features import EXTRACTORS, Keypoints, make_extractor
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine import REFINERS
from gsplatloc.mapping.train import placeholder_gaussians
from gsplatloc.scene import SceneOptions
from gsplatloc.scene.readers import READERS
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.registry import import_plugin

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "examples" / "plugins"


@pytest.fixture(scope="module", autouse=True)
def plugins() -> Iterator[None]:
    """The plugins in this process, for these tests only."""
    with pytest.MonkeyPatch.context() as patch:
        for family in (REFINERS, EXTRACTORS, READERS):
            patch.setattr(family, "_entries", {entry.name: entry for entry in family.entries()})
        for path in sorted(PLUGINS.glob("*.py")):
            import_plugin(str(path))
        yield


def run(plugin: str, *words: str) -> None:
    """`gsplatloc WORDS` with a plugin, in a process of its own."""
    environment = os.environ | {"GSPLATLOC_PLUGINS": str(PLUGINS / plugin)}
    subprocess.run([sys.executable, "-m", "gsplatloc", *words], check=True, env=environment, cwd=ROOT)


def make_map(plugin: str, scene: Path, folder: Path, *words: str) -> Path:
    options = ["--preset", "cpu", "--holdout", "0", "--early_stop", "0", "--densification", "none", "--quiet"]
    run(plugin, "train", "-s", str(scene), "-m", str(folder), *options, *words)
    return folder


def localize(folder: Path, plugin: str, *words: str) -> dict:
    """The content of metrics.json."""
    run(plugin, "localize", "-m", str(folder), "--no_pictures", "--quiet", *words)
    return json.loads((folder / "localization" / "metrics.json").read_text())


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("gsplatloc_kernels")
    folder = tmp_path_factory.mktemp("plugins") / "room"
    make_room(folder, RoomOptions(width=256, height=192, train=30, test=4, arc=0.35))
    return folder


@pytest.fixture(scope="module")
def kitchen(room: Path) -> Path:
    """A map of the room with the default features."""
    words = ("--iterations", "300", "--sh_degree", "0", "--descriptors", "none")
    return make_map("flow.py", room, room.parent / "map", *words)


def test_the_refiner_improves_the_initial_pose(kitchen: Path) -> None:
    found = localize(kitchen, "flow.py", "--stages", "flow", "--flow.corners", "500")
    initial, flow = found["stages"]["initial"], found["stages"]["flow"]
    assert flow["accepted"] >= 3
    assert flow["median_translation_m"] < 0.8 * initial["median_translation_m"]


def test_the_refiner_can_follow_another(kitchen: Path) -> None:
    stages = localize(kitchen, "flow.py", "--stages", "lm", "flow")["stages"]
    assert list(stages)[:3] == ["initial", "lm", "flow"]


def test_the_refiner_returns_an_estimate_without_evidence() -> None:
    """The contract: the initial estimate again, not accepted, where the map shows nothing."""
    camera = gsplatloc.Camera(64, 48, 50.0, 50.0, 32.0, 24.0)
    nothing = torch.zeros(0, 64)
    query = Query(np.zeros((48, 64, 3), np.uint8), camera, Keypoints(nothing[:, :2], nothing, nothing[:, 0]),
                  torch.zeros(64, 6, 8))  # fmt: skip
    gaussians = placeholder_gaussians(torch.device("cpu"))
    estimate = gsplatloc.PoseEstimate(gsplatloc.Status.OK, camera, torch.eye(4, dtype=torch.float64))
    entry = REFINERS["flow"]
    refiner = entry.make(entry.options(), None)
    for initial in (estimate, replace(estimate, status=gsplatloc.Status.NO_CONSENSUS, cam_from_world=None)):
        found = refiner.refine(query, SplatMap(gaussians=gaussians), initial)
        assert replace(found, elapsed_ms=0.0) == replace(initial, accepted=False)


def test_the_extractor_keeps_to_the_pixel_convention() -> None:
    """An image moved by a whole cell has the same keypoints and the same dense map, moved."""
    generator = np.random.default_rng(0)
    image = np.kron(generator.integers(0, 255, (24, 32), dtype=np.uint8), np.ones((8, 8), np.uint8))
    image = np.repeat(image[:, :, None], 3, axis=2)
    extractor = make_extractor("rootsift", top_k=200)
    here, there = extractor.extract(image[:, :-8].copy()), extractor.extract(image[:, 8:].copy())
    assert here.dense.shape == (extractor.channels, *extractor.dense_size(248, 192))
    cosine = (here.dense[:, 4:-4, 5:-4] * there.dense[:, 4:-4, 4:-5]).sum(0)
    assert cosine.min() > 0.99  # SIFT is rounded to 8 bits
    distance = torch.cdist(here.keypoints.xy - torch.tensor([8.0, 0.0]), there.keypoints.xy).amin(1)
    assert distance.median() < 0.05


def test_a_map_is_made_and_queried_with_the_extractor(room: Path) -> None:
    words = (
        "--extractor",
        "rootsift",
        "--iterations",
        "5",
        "--init_max_points",
        "2000",
        "--descriptor_steps",
        "0",
    )
    folder = make_map("rootsift.py", room, room.parent / "rootsift", *words)
    assert localize(folder, "rootsift.py", "--stages", "initial")["final"]["median_translation_m"] < 0.01


def test_the_reader_reads_what_the_room_holds(room: Path, tmp_path: Path) -> None:
    truth = gsplatloc.read_scene(room).train
    write_table(tmp_path, truth)
    scene = gsplatloc.read_scene(tmp_path, SceneOptions(eval=True))
    assert len(scene.train) + len(scene.test) == len(truth)
    assert scene.report == f"{tmp_path}: used {len(scene.train)} training and {len(scene.test)} test images"
    assert [view.name for view in scene.test] == [view.image_path.name for view in truth[::8]]
    for view, expected in zip(scene.test, truth[::8]):
        assert view.camera == expected.camera
        assert torch.allclose(view.cam_from_world, expected.cam_from_world, atol=1e-6)
        assert np.array_equal(view.load_image(), expected.load_image())


def test_the_reader_names_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "poses.csv").write_text("name,fx\na.png,100\n")
    with pytest.raises(GSplatLocError, match="expected the columns name fx"):
        gsplatloc.read_scene(tmp_path)


def write_table(folder: Path, views: list) -> None:
    """The layout of the tutorial's reader."""
    (folder / "images").mkdir()
    with (folder / "poses.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "fx", "fy", "cx", "cy", "qw", "qx", "qy", "qz", "tx", "ty", "tz"])
        for view in views:
            shutil.copy(view.image_path, folder / "images" / view.image_path.name)
            pose, camera = view.cam_from_world, view.camera
            quaternion = se3.quaternion_from_rotation(pose[:3, :3]).tolist()
            intrinsics = [camera.fx, camera.fy, camera.cx, camera.cy]
            writer.writerow([view.image_path.name, *intrinsics, *quaternion, *pose[:3, 3].tolist()])
