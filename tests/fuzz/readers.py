"""The readers of files: how to write a valid input, and how to read it."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gsplatloc.datasets import cambridge, photos, seven_scenes, twelve_scenes
from gsplatloc.datasets.layout import is_complete
from gsplatloc.datasets.pseudo_ground_truth import read_pseudo_ground_truth
from gsplatloc.datasets.visual_sfm import read_nvm
from gsplatloc.gaussian_renderer import render
from gsplatloc.localization.alignment.exposure import load_exposure
from gsplatloc.localization.initial.view_index import load_index
from gsplatloc.localization.io.json_lines import read_outcomes
from gsplatloc.localization.io.pose_files import read_pose_file
from gsplatloc.localization.io.saved_matches import read_localized
from gsplatloc.localization.io.saved_results import load_results
from gsplatloc.localization.landmarks.file import load_landmarks
from gsplatloc.localization.queries import camera_of_file, exif_focal
from gsplatloc.localization.tiles.place_index import load_places
from gsplatloc.mapping.feature_cache import FeatureCache
from gsplatloc.mapping.log import TrainingLog
from gsplatloc.mapping.resumable import is_finished
from gsplatloc.reproduction.costs import read_costs
from gsplatloc.scene import images
from gsplatloc.scene.cameras import View
from gsplatloc.scene.checkpoint import load_checkpoint
from gsplatloc.scene.export import load_gaussians
from gsplatloc.scene.formats import read_splat
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.map_config import longest_side, read_cameras, read_config
from gsplatloc.scene.poses_without_images import read_posed_cameras
from gsplatloc.scene.readers import read_scene
from gsplatloc.scene.readers.point_cloud import read_points
from gsplatloc.scene.tiled_map import read_tiles
from gsplatloc.utils.archives import extract
from gsplatloc.visualization.plots import read_log, training_curves
from tests.fuzz import native, seeds
from tests.scene import recordings

NOTHING = object()  # the answer of a read that found no file to read


@dataclass(frozen=True)
class Target:
    """A reader."""

    build: Callable[[Path], None]  # writes a valid input into a folder
    reads: tuple[Callable[[Path], Any], ...]  # each is to return, or to raise a GSplatLocError
    alone: bool = False  # whether every file is an input of its own
    writes: bool = False  # whether reading writes into the folder


def scene(root: Path) -> None:
    found = read_scene(root)
    for view in (*found.train[:2], *found.test[:1]):
        assert view.load_image().shape == (view.camera.height, view.camera.width, 3)
        assert bool(view.cam_from_world.isfinite().all())
        if view.load_depth:
            view.load_depth()


def each(pattern: str, read: Callable[[Path], Any]) -> Callable[[Path], object]:
    """Reads every file of a name."""

    def run(root: Path) -> object:
        paths = sorted(root.glob(pattern))
        for path in paths:
            read(path)
        return paths or NOTHING

    return run


def poses(root: Path) -> None:
    for pose in read_pose_file(root, seeds.NAMES).values():
        assert bool(pose.cam_from_world.isfinite().all())


def cache(root: Path) -> None:
    opened, view = FeatureCache(root, seeds.Extractor()), seeds.views(root)[0]
    for folder in (path for path in root.iterdir() if path.is_dir()):
        folder.rmdir()  # in the place of an entry: commands print what the system says of it
    assert opened.load(view).dense.shape == (4, 2, 3) and opened.load_dense(view).shape == (4, 2, 3)
    assert opened.load_keypoints(view).xy.shape == (3, 2)


def curves(path: Path) -> None:
    """Draws every twentieth log: a figure takes 50 ms."""
    read_log(path)
    if path.is_file() and zlib.crc32(path.read_bytes()) % 20 == 0:
        training_curves(path)


def posed(path: Path) -> None:
    """Reads poses whose images are gone."""
    for view in read_posed_cameras(path):
        assert bool(view.cam_from_world.isfinite().all())


def rendered(found: Gaussians) -> None:
    """What was read can be rendered."""
    assert all(bool(tensor.isfinite().all()) for tensor in found.per_gaussian().values())
    with torch.no_grad():
        render(found, seeds.CAMERA, torch.eye(4))


def splat(path: Path) -> None:
    rendered(read_splat(path))


def recorded(write: Callable[[Path, Sequence[View]], Path]) -> Callable[[Path], None]:
    """Writes a phone's recording of the views of `seeds`."""

    def build(root: Path) -> None:
        write(root, [replace(view, load_depth=seeds.depth) for view in seeds.views(root)])

    return build


TARGETS: dict[str, Target] = {
    "colmap_binary": Target(seeds.colmap_binary, (scene, lambda root: poses(root / "sparse" / "0"))),
    "colmap_text": Target(seeds.colmap_text, (scene, lambda root: poses(root / "sparse" / "0"))),
    "transforms": Target(seeds.transforms, (scene,)),
    "posed_folders": Target(seeds.posed_folders, (scene,)),
    "tum": Target(seeds.tum, (scene,)),
    "replica": Target(seeds.replica, (scene,)),
    "record3d": Target(recorded(recordings.record3d_folder), (scene,)),
    "record3d_archive": Target(
        recorded(recordings.record3d), (lambda root: scene(root / "clip.r3d"),), writes=True
    ),
    "record3d_export": Target(recorded(recordings.record3d_export), (scene,)),
    "polycam": Target(recorded(recordings.polycam), (scene,)),
    "scanner_app": Target(recorded(recordings.scanner_app), (scene,)),
    "stray_scanner": Target(recorded(partial(recordings.stray_scanner, video=True)), (scene,), writes=True),
    "nerfcapture": Target(recorded(recordings.nerfcapture), (scene,)),
    "pose_files": Target(
        seeds.pose_files,
        (
            lambda root: poses(root / "pgt.txt"),
            lambda root: read_pose_file(root / "tum.txt", ("1.png", "2.png")),
        ),
        alone=True,
    ),
    "data_sets": Target(
        seeds.data_sets,
        (
            lambda root: read_nvm(root / "reconstruction.nvm"),
            lambda root: cambridge.read_dataset_file(root / "dataset_train.txt"),
            lambda root: seven_scenes.read_split(root / "TrainSplit.txt"),
            lambda root: twelve_scenes.read_focal_length(root / "info.txt"),
            lambda root: twelve_scenes.read_test_range(root / "split.txt"),
            lambda root: is_complete(root, {"poses": "pgt", "depth": "none"}),
            lambda root: read_pseudo_ground_truth(root / "pgt.txt"),
        ),
        alone=True,
    ),
    "images": Target(
        seeds.photos,
        (
            each("a*", images.decode_rgb),
            each("*", images.decode_upright),
            each("d.*", images.decode_depth),
            each("*", images.upright_size),
        ),
        alone=True,
    ),
    "photos": Target(
        seeds.photos,
        (
            lambda root: photos.collect(root, root / "out", 5, 20),
            each("a*", exif_focal),
            each("a*", camera_of_file),
        ),
        alone=True,
    ),
    "ply": Target(seeds.ascii_splat, (lambda root: splat(root / "ascii.ply"), each("*.ply", read_points))),
    "splat_map": Target(seeds.splat_map, (lambda root: rendered(load_gaussians(root)),)),
    "map": Target(
        seeds.a_map,
        (
            read_config,
            read_cameras,
            longest_side,
            each("landmarks*", load_landmarks),
            each("views*", load_index),
            each("checkpoint*", load_checkpoint),
        ),
        alone=True,
    ),
    "training_log": Target(
        seeds.training_log, (each("*.jsonl", curves), lambda root: TrainingLog(root, 2)), writes=True
    ),
    "splats": Target(seeds.splats, (each("*", splat),), alone=True),
    "poses_without_images": Target(
        seeds.poses_without_images,
        (each("*.json", posed), lambda root: posed(root) if (root / "sparse").is_dir() else NOTHING),
        alone=True,
    ),
    "results": Target(
        seeds.results,
        (
            each("*.jsonl", read_outcomes),
            each("results.json", load_results),
            lambda root: read_localized(root) if (root / "queries.jsonl").is_file() else NOTHING,
        ),
    ),
    "tiles": Target(
        seeds.tiles,
        (
            each("tiles.json", lambda path: read_tiles(path.parent)),
            each("*.safetensors", lambda path: load_places(path, 2)),
        ),
        alone=True,
    ),
    "states": Target(
        seeds.states,
        (is_finished, lambda root: read_costs(root / "costs.json"), each("exposure*", load_exposure)),
        alone=True,
    ),
    "feature_cache": Target(seeds.feature_cache, (cache,), writes=True),
    "native": Target(native.build, (native.call,)),
    "archives": Target(
        seeds.archive, (each("*.zip", lambda path: extract(path, path.parent / "out")),), alone=True
    ),
}
