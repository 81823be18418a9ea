"""Scenes of the accuracy benchmark: parts of them, copies for the baseline, and images of other places."""

import re
import shutil
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from gsplatloc.datasets.layout import format_pose
from gsplatloc.localization.queries import QueryImage, query_from_view
from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.scene.cameras import Scene, View
from gsplatloc.scene.map_config import read_cameras
from gsplatloc.utils import se3
from gsplatloc.utils.distances import exact_distances
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import write_text

SCENES = ("pgt_7scenes_redkitchen", "colmap_south_building", "nerf_fox")
# Names of scenes in metres begin with one of these; errors elsewhere are relative.
_METRIC = ("pgt_7scenes_redkitchen", "hololens_office", "tum_livingroom1", "room", "building")
_DEPTH_UNITS = 1000  # 16-bit values per metre in posed folders
_SAME_POSE = 1e-6  # difference of two poses, positions relative to the extent of the path


@dataclass(frozen=True)
class SceneVariant:
    """A scene, or the part of it that is mapped."""

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
        """The name as that of a folder."""
        return self.name if self.first == 100 else f"{self.name}-first{self.first}"

    @property
    def metric(self) -> bool:
        return is_metric(self.name)

    def source(self, data: Path, work: Path) -> Path:
        """The scene's folder; for a part of a scene, a folder of links in `work`."""
        return data / self.name if self.first == 100 else link_part(data / self.name, self.first, work)


def is_metric(scene: str) -> bool:
    """Whether the positions of the scene of this name are metres."""
    return scene.startswith(_METRIC)


def link_part(source: Path, percent: int, target: Path) -> Path:
    """Posed folders of links to the test images and to the first `percent` % of the training images."""
    if not (source / "train" / "rgb").is_dir():
        raise GSplatLocError(
            f"expected posed folders (train/rgb) in {source}, found none: give the NAME only"
        )
    images = sorted((source / "train" / "rgb").iterdir())
    _link(source, {stem(path) for path in images[: max(1, len(images) * percent // 100)]}, "train", target)
    _link(source, None, "test", target)
    return target


def _link(source: Path, stems: set[str] | None, split: str, target: Path) -> None:
    """Links in `target` to the files of a split of posed folders; only those with these stems, if given."""
    for file in sorted((source / split).glob("*/*")):
        link = target / file.relative_to(source)
        if (stems is None or stem(file) in stems) and not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.resolve())


def stem(path: Path | str) -> str:
    """`frame-000001` of `frame-000001.color.jpg`."""
    return Path(path).name.split(".")[0]


def path_extent(views: Sequence[View]) -> float:
    """Diagonal of the bounding box of the camera centres, in scene units."""
    return extent_of(torch.stack([view.cam_from_world for view in views]))


def extent_of(poses: torch.Tensor) -> float:
    """`path_extent` of poses [N, 4, 4]."""
    centers = se3.camera_center(poses)
    return torch.linalg.norm(centers.amax(0) - centers.amin(0)).item()


def every_7th_left_out(views: Sequence[View]) -> tuple[list[View], list[View]]:
    """Views to map, and every 7th, which are localized."""
    return [view for index, view in enumerate(views) if index % 7 != 6], list(views[6::7])


def check_unseen(scene: Scene, map_folder: Path) -> None:
    """Raise if a test view was among the images that the map was made from: it would flatter the map."""
    unit = path_extent([*scene.train, *scene.test])

    def flat(pose: torch.Tensor) -> torch.Tensor:
        world_from_cam = se3.inverse(pose.double())
        return torch.cat([world_from_cam[:3, 3] / unit, world_from_cam[:3, :3].flatten()])

    mapped = torch.stack([flat(camera.cam_from_world) for camera in read_cameras(map_folder)])
    tested = torch.stack([flat(view.cam_from_world) for view in scene.test])
    distances = exact_distances(tested, mapped)
    seen = (distances.amin(1) < _SAME_POSE).nonzero()[:, 0].tolist()
    if seen:
        raise GSplatLocError(
            f"expected a map without the test images, found {scene.test[seen[0]].name} in {map_folder}:"
            " map this scene again"
        )


def prepare_for_baseline(source: Path, options: SceneOptions, copy: Path) -> Path:
    """The scene itself where it has posed folders, else an undistorted copy of the views that we read."""
    if (source / "train" / "rgb").is_dir():
        return source
    if not (copy / "done").exists():
        scene = read_scene(source, options)
        for split, views in (("train", scene.train), ("test", scene.test)):
            write_posed_folders(copy / split, _numbered(views))
        write_text(copy / "done", "complete\n")
    return copy


def link_training(source: Path, views: Sequence[View], target: Path) -> None:
    """The training images `views` of a scene, as posed folders `target/train`; links where it has some."""
    if not (source / "train" / "rgb").is_dir():
        write_posed_folders(target / "train", _numbered(views))
        return
    _link(source, {stem(view.image_path) for view in views}, "train", target)


def case_of(name: str) -> str:
    """The case of a hard query by the name of its file, CASE--NUMBER."""
    return name.split("--")[0]


def link_queries(source: Path, cases: Collection[str], target: Path) -> Path:
    """Posed folders `target` of links to the mapping views of `source` and to the queries of `cases` only."""
    shutil.rmtree(target, ignore_errors=True)  # links of an earlier choice
    names = [path.name for path in (source / "test" / "rgb").iterdir()]
    _link(source, None, "train", target)
    _link(source, {name.split(".")[0] for name in names if case_of(name) in cases}, "test", target)
    return target


def _numbered(views: Sequence[View]) -> Iterable[tuple[str, View]]:
    return ((f"frame-{index:06d}", view) for index, view in enumerate(views))


def write_posed_folders(folder: Path, views: Iterable[tuple[str, View]]) -> None:
    """Write views by name N: `rgb/N.color.png`, `poses/N.pose.txt`, `calibration/N.calibration.txt` (K).

    With `depth/N.depth.png` where a view has depth.
    """
    (folder / "rgb").mkdir(parents=True, exist_ok=True)
    for name, view in views:
        rows = view.camera.matrix().tolist()
        matrix = "".join(" ".join(f"{value:.12g}" for value in row) + "\n" for row in rows)
        pose = format_pose(se3.inverse(view.cam_from_world).numpy())
        write_text(folder / "poses" / f"{name}.pose.txt", pose)
        write_text(folder / "calibration" / f"{name}.calibration.txt", matrix)
        cv2.imwrite(str(folder / "rgb" / f"{name}.color.png"), view.load_image()[..., ::-1])
        if view.load_depth is not None:
            (folder / "depth").mkdir(exist_ok=True)
            depth = (_DEPTH_UNITS * view.load_depth()).round().clip(0, 65535).astype(np.uint16)
            cv2.imwrite(str(folder / "depth" / f"{name}.depth.png"), depth)


def foreign_queries(data: Path, home: str, count: int) -> list[QueryImage]:
    """`count` images drawn from the other scenes in `SCENES`, the same ones every time."""
    others = [name for name in SCENES if name != home and (data / name).is_dir()]
    scenes = [read_scene(data / name, SceneOptions()) for name in others]
    views = [view for scene in scenes for view in [*scene.train, *scene.test]]
    order = torch.randperm(len(views), generator=torch.Generator().manual_seed(0)).tolist()
    return [query_from_view(views[index]) for index in order[:count]]
