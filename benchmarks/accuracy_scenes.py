"""Scenes of the accuracy benchmark: variants of them, copies for the baseline, and photos of elsewhere."""

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import torch

from gsplatloc.datasets.layout import format_pose
from gsplatloc.localization.queries import QueryImage, query_from_view
from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.scene.cameras import Scene, View
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json, write_text

SCENES = ("pgt_7scenes_redkitchen", "colmap_south_building", "nerf_fox")
METRIC_SCENES = SCENES[:1]  # the others have no scale: their errors are given relative only
_SAME_POSE = 1e-6  # difference of two poses, positions relative to the extent of the path


@dataclass(frozen=True)
class SceneVariant:
    """A scene, or the stretch of it that is mapped."""

    name: str  # folder of the data set
    first: int = 100  # percent of its training images, in order of their names, that are mapped

    @classmethod
    def parse(cls, text: str) -> "SceneVariant":
        """`NAME`, or `NAME:first60` for the first 60 % of its training images."""
        match = re.fullmatch(r"([^:]+)(?::first(\d+))?", text)
        if match is None or not 1 <= int(match[2] or 100) <= 100:
            raise GSplatLocError(f"expected a scene like NAME or NAME:first60, found {text}: see --scenes")
        return cls(match[1], int(match[2] or 100))

    @property
    def slug(self) -> str:
        """Its name as a folder's."""
        return self.name if self.first == 100 else f"{self.name}-first{self.first}"

    @property
    def metric(self) -> bool:
        return self.name in METRIC_SCENES

    def source(self, data: Path, work: Path) -> Path:
        """The scene's folder; of a stretch, one of links in `work`."""
        return data / self.name if self.first == 100 else link_stretch(data / self.name, self.first, work)


def has_split(source: Path) -> bool:
    """Whether the layout has test images of its own."""
    return (source / "train").is_dir()


def link_stretch(source: Path, percent: int, target: Path) -> Path:
    """Posed folders of links to the test images and to the first `percent` % of the training images."""
    if not (source / "train" / "rgb").is_dir():
        raise GSplatLocError(
            f"expected posed folders (train/rgb) in {source}, found none: no stretch of this scene"
        )
    images = sorted((source / "train" / "rgb").iterdir())
    stems = {_stem(path) for path in images[: max(1, len(images) * percent // 100)]}
    for file in sorted(source.glob("*/*/*")):
        link = target / file.relative_to(source)
        wanted = file.parent.parent.name == "test" or _stem(file) in stems
        if wanted and not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.resolve())
    return target


def _stem(path: Path) -> str:
    """`frame-000001` of `frame-000001.color.jpg`."""
    return path.name.split(".")[0]


def path_extent(views: list[View]) -> float:
    """Diagonal of the bounding box of the camera centres, scene units: what errors are relative to."""
    centers = torch.stack([se3.camera_center(view.cam_from_world) for view in views])
    return torch.linalg.norm(centers.amax(0) - centers.amin(0)).item()


def check_unseen(scene: Scene, map_folder: Path) -> None:
    """Raise if a test view was among the images that the map was made of.

    Landmarks come from all training views, those held out for PSNR included: pose errors are of test views
    or they are worth nothing.
    """
    unit = path_extent([*scene.train, *scene.test])
    mapped = [
        [value / unit for value in camera["position"]]
        + [value for row in camera["rotation"] for value in row]
        for camera in read_json(map_folder / "cameras.json")
    ]
    poses = [se3.inverse(view.cam_from_world) for view in scene.test]
    tested = torch.stack([torch.cat([pose[:3, 3] / unit, pose[:3, :3].flatten()]) for pose in poses])
    differences = torch.cdist(
        tested, torch.tensor(mapped, dtype=tested.dtype), compute_mode="donot_use_mm_for_euclid_dist"
    )
    seen = (differences.amin(1) < _SAME_POSE).nonzero()[:, 0].tolist()
    if seen:
        raise GSplatLocError(
            f"expected a map without the test images, found {scene.test[seen[0]].name} in {map_folder}:"
            " map this scene anew"
        )


def write_posed_folders(folder: Path, views: list[View]) -> None:
    """Write views as `rgb/N.color.png`, `poses/N.pose.txt` and `calibration/N.calibration.txt` (a 3x3 K)."""
    for kind in ("rgb", "poses", "calibration"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for index, view in enumerate(views):
        stem = f"frame-{index:06d}"
        matrix = "\n".join(
            " ".join(f"{value:.12g}" for value in row) for row in view.camera.matrix().tolist()
        )
        write_text(
            folder / "poses" / f"{stem}.pose.txt", format_pose(se3.inverse(view.cam_from_world).numpy())
        )
        write_text(folder / "calibration" / f"{stem}.calibration.txt", matrix + "\n")
        cv2.imwrite(str(folder / "rgb" / f"{stem}.color.png"), view.load_image()[..., ::-1])


def prepare_for_baseline(source: Path, options: SceneOptions, copy: Path) -> Path:
    """The scene itself where it has posed folders, else an undistorted copy of the views that we read."""
    if (source / "train" / "rgb").is_dir():
        return source
    if not (copy / "done").exists():
        scene = read_scene(source, options)
        for split, views in (("train", scene.train), ("test", scene.test)):
            write_posed_folders(copy / split, views)
        write_text(copy / "done", "complete\n")
    return copy


def foreign_queries(data: Path, home: str, count: int) -> list[QueryImage]:
    """`count` photos drawn from the other scenes at hand, always the same ones."""
    others = [name for name in SCENES if name != home and (data / name).is_dir()]
    scenes = [read_scene(data / name, SceneOptions()) for name in others]
    views = [view for scene in scenes for view in [*scene.train, *scene.test]]
    order = torch.randperm(len(views), generator=torch.Generator().manual_seed(0)).tolist()
    return [query_from_view(views[index]) for index in order[:count]]
