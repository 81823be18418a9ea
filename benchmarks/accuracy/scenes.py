"""Scenes of the accuracy benchmark: parts of them, copies for the baseline, and images of other places."""

import re
import shutil
import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from gsplatloc.datasets.layout import format_pose
from gsplatloc.localization.quarter_turns import turn_estimate, turn_image
from gsplatloc.localization.queries import QueryImage, query_from_view
from gsplatloc.localization.result import PoseEstimate, Status
from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.scene.cameras import Camera, Scene, View
from gsplatloc.scene.images import resize_rgb
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
_MOTION = 0.03  # length of the motion blur relative to the longer side
_GAMMA, _GAIN = 1.5, 0.5  # of the darkened image
_TINT = (1.0, 0.8, 0.55)  # gain of red, green and blue: lamps instead of daylight
_NOISE = 4.0  # grey levels, standard deviation of the darkened image
_COVERED = 0.3  # share of an image that is occluded
_OBJECTS = 3  # that occlude it


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


@dataclass(frozen=True)
class Shot:
    """An image with its camera and pose."""

    image: np.ndarray  # [H, W, 3] uint8 RGB
    camera: Camera
    cam_from_world: Tensor  # [4, 4] float64


Condition = Callable[[Shot, np.random.Generator], Shot]


def turned(quarters: int) -> Condition:
    """Turned counterclockwise in the image plane."""

    def turn(shot: Shot, rng: np.random.Generator) -> Shot:
        pose = turn_estimate(PoseEstimate(Status.OK, shot.camera, shot.cam_from_world), quarters)
        return Shot(turn_image(shot.image, quarters), pose.camera, pose.pose())

    return turn


def cropped(shot: Shot, rng: np.random.Generator) -> Shot:
    """The middle of the image, half as wide and half as high: half the field of view."""
    height, width = (side // 2 for side in shot.image.shape[:2])
    x, y = (shot.camera.width - width) // 2, (shot.camera.height - height) // 2
    camera = replace(shot.camera, width=width, height=height, cx=shot.camera.cx - x, cy=shot.camera.cy - y)
    return replace(shot, image=shot.image[y : y + height, x : x + width], camera=camera)


def shrunk(shot: Shot, rng: np.random.Generator) -> Shot:
    """A quarter of the width and height."""
    camera = shot.camera.resized(shot.camera.width // 4, shot.camera.height // 4)
    return replace(shot, image=resize_rgb(shot.image, camera.width, camera.height), camera=camera)


def moved(shot: Shot, rng: np.random.Generator) -> Shot:
    """Blurred along a line of random direction, as by a motion of the camera."""
    length = max(3, round(_MOTION * max(shot.image.shape[:2])))
    kernel, angle = np.zeros((2 * length + 1,) * 2, np.float32), rng.uniform(0, np.pi)
    away = (length / 2 * np.array([np.cos(angle), np.sin(angle)])).round().astype(int)
    start, end = (tuple(int(length + sign * value) for value in away) for sign in (-1, 1))
    cv2.line(kernel, start, end, 1.0)
    blurred = cv2.filter2D(shot.image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)
    return replace(shot, image=blurred)


def darkened(shot: Shot, rng: np.random.Generator) -> Shot:
    """Darker, with more contrast, in another light, and noisy."""
    values = 255 * _GAIN * np.array(_TINT) * (shot.image / 255.0) ** _GAMMA
    noisy = values + rng.normal(0, _NOISE, values.shape)
    return replace(shot, image=noisy.clip(0, 255).astype(np.uint8))


def occluded(shot: Shot, rng: np.random.Generator) -> Shot:
    """Three textured objects, apart from each other, cover 30 % of the image."""
    image = shot.image.copy()
    height, width = image.shape[:2]
    third, share = width / _OBJECTS, _COVERED**0.5
    across, down = round(third * share), round(height * share)
    for number in range(_OBJECTS):
        x = round(number * third + rng.uniform(0, third - across))
        y = round(rng.uniform(0, height - down))
        texture = rng.integers(0, 256, (8, 6, 3)).astype(np.uint8)
        image[y : y + down, x : x + across] = cv2.resize(
            texture, (across, down), interpolation=cv2.INTER_CUBIC
        )
    return replace(shot, image=image)


CONDITIONS: dict[str, Condition] = {
    "plain": lambda shot, rng: shot,
    "turned90": turned(1),
    "turned180": turned(2),
    "turned270": turned(3),
    "cropped": cropped,
    "quarter": shrunk,
    "motion": moved,
    "dark": darkened,
    "occluded": occluded,
}


def under(condition: str, name: str, shot: Shot) -> Shot:
    """The shot called `name` under a condition."""
    return CONDITIONS[condition](shot, np.random.default_rng(zlib.crc32(name.encode())))
