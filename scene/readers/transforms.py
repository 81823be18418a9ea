"""Layout 3: `transforms.json` of NeRF, instant-ngp and nerfstudio.

Poses are camera-to-world with OpenGL axes (y up, z backward). Intrinsics are in the document or in a frame,
which takes precedence; they are for an image of `w` x `h`. Scale, `aabb_scale` and so on are ignored.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gsplatloc.scene.cameras import Scene, SparsePoints, View
from gsplatloc.scene.images import CameraModel, image_size
from gsplatloc.scene.readers import READERS
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.scene.readers.point_cloud import read_points
from gsplatloc.scene.readers.poses import rigid_from_matrix
from gsplatloc.scene.readers.views import make_view, report_skipped, split_test_views
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json

_OPENGL_FROM_OPENCV = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))
_IMPLIED_SUFFIXES = ("", ".png", ".jpg", ".jpeg")  # NeRF's synthetic scenes list images without suffix
_PERSPECTIVE_MODELS = frozenset(
    {"PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV"}
)

Record = Mapping[str, Any]  # parsed JSON


@READERS.register(
    "transforms",
    help="transforms.json, or transforms_train.json with transforms_test.json (NeRF, nerfstudio)",
    priority=30,
)
class TransformsReader:
    """Reads layout 3: one file, or `transforms_train.json` with `transforms_test.json`."""

    def matches(self, path: Path) -> bool:
        return (path / "transforms.json").is_file() or (path / "transforms_train.json").is_file()

    def read(self, path: Path, options: SceneOptions) -> Scene:
        single = path / "transforms.json"
        if single.is_file():
            document = read_json(single)
            train, test = _read_single(path, document, options)
        else:
            document = read_json(path / "transforms_train.json")
            train = _read_frames(path, document, _frames(document, "frames", path), options)
            train, test = _by_name(train), _by_name(_read_test_file(path, options))
        if not train:
            raise GSplatLocError(f"expected listed images in {path}, found none of them: check file_path")
        return Scene(path.resolve().name, path, train, test, _points(path, document))


def camera_model_of(record: Record, size: tuple[int, int]) -> CameraModel:
    """The camera model of a frame's intrinsics; `size` (width, height) is the default of w and h."""
    width, height = round(_number(record, "w", size[0])), round(_number(record, "h", size[1]))
    fx, fy = _focal_lengths(record, width, height)
    params = [fx, fy, _number(record, "cx", width / 2), _number(record, "cy", height / 2)]
    k1, k2, k3, k4 = (_number(record, f"k{order}", 0.0) for order in (1, 2, 3, 4))
    p1, p2 = _number(record, "p1", 0.0), _number(record, "p2", 0.0)
    model = str(record.get("camera_model", "OPENCV"))
    if model == "OPENCV_FISHEYE" or record.get("is_fisheye"):
        return CameraModel("OPENCV_FISHEYE", width, height, (*params, k1, k2, k3, k4))
    if model not in _PERSPECTIVE_MODELS or k4:
        found = f"{model} with k4" if k4 else model
        raise GSplatLocError(
            f"expected a perspective or OPENCV_FISHEYE camera, found {found}: undistort the images"
        )
    if k3:
        return CameraModel("FULL_OPENCV", width, height, (*params, k1, k2, p1, p2, k3, 0.0, 0.0, 0.0))
    if any((k1, k2, p1, p2)):
        return CameraModel("OPENCV", width, height, (*params, k1, k2, p1, p2))
    return CameraModel("PINHOLE", width, height, tuple(params))


def _focal_lengths(record: Record, width: int, height: int) -> tuple[float, float]:
    """(fx, fy) in pixels, from lengths or from fields of view; one axis is the default of the other."""
    fx, fy = _number(record, "fl_x", 0.0), _number(record, "fl_y", 0.0)
    if not fx and not fy:
        angle_x, angle_y = _number(record, "camera_angle_x", 0.0), _number(record, "camera_angle_y", 0.0)
        fx = width / 2 / math.tan(angle_x / 2) if angle_x else 0.0
        fy = height / 2 / math.tan(angle_y / 2) if angle_y else 0.0
    fx, fy = fx or fy, fy or fx
    if not (fx > 0 and fy > 0):
        raise GSplatLocError("expected fl_x or camera_angle_x in the transforms file, found neither: add one")
    return fx, fy


def _number(record: Record, key: str, default: float) -> float:
    value = record.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise GSplatLocError(
            f"expected a number for {key} in the transforms file, found {value!r}: correct it"
        )
    return float(value)


def _read_single(path: Path, document: Record, options: SceneOptions) -> tuple[list[View], list[View]]:
    """(train, test) of one file, which may hold a split in either of nerfstudio's forms."""
    views = _read_frames(path, document, _frames(document, "frames", path), options)
    if "test_frames" in document:
        test = _read_frames(path, document, _frames(document, "test_frames", path), options)
        return _by_name(views), _by_name(test)
    if "test_filenames" in document:
        test_names = {Path(name).as_posix() for name in document["test_filenames"]}
        train = [view for view in views if view.name not in test_names]
        return _by_name(train), _by_name([view for view in views if view.name in test_names])
    return split_test_views(views, options)


def _read_test_file(path: Path, options: SceneOptions) -> list[View]:
    test_file = path / "transforms_test.json"
    if not test_file.is_file():
        return []
    document = read_json(test_file)
    return _read_frames(path, document, _frames(document, "frames", path), options)


def _frames(document: Record, key: str, path: Path) -> list[Record]:
    frames = document.get(key) if isinstance(document, dict) else None
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        raise GSplatLocError(
            f"expected a list {key!r} in the transforms file of {path}, found none: export it again"
        )
    return frames


def _read_frames(path: Path, document: Record, frames: list[Record], options: SceneOptions) -> list[View]:
    views, missing, lost = [], 0, 0
    shared = {key: value for key, value in document.items() if key not in ("frames", "test_frames")}
    for frame in frames:
        image_path = _image_path(path, str(frame.get("file_path", "")), options)
        if image_path is None:
            missing += 1
            continue
        cam_from_world = _pose(frame, image_path)
        if cam_from_world is None:
            lost += 1
            continue
        camera_model = camera_model_of(shared | dict(frame), image_size(image_path))
        depth_path = path / str(frame["depth_file_path"]) if "depth_file_path" in frame else None
        name = image_path.relative_to(path).as_posix()
        views.append(make_view(name, image_path, camera_model, cam_from_world, options, depth_path))
    report_skipped(path, missing, "listed in the transforms file but not on disk")
    report_skipped(path, lost, "their poses are not finite")
    return views


def _pose(frame: Record, image_path: Path) -> Tensor | None:
    source = f"transform_matrix of {image_path.name}"
    try:
        world_from_camera_gl = np.array(frame["transform_matrix"], dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        raise GSplatLocError(
            f"expected a 4x4 {source}, found none: export the transforms file again"
        ) from None
    world_from_cam = rigid_from_matrix(world_from_camera_gl, source)
    if world_from_cam is None:
        return None
    return se3.inverse(world_from_cam @ _OPENGL_FROM_OPENCV)


def _image_path(path: Path, listed: str, options: SceneOptions) -> Path | None:
    base = path / (Path(options.images) / Path(listed).name if options.images else Path(listed))
    for suffix in _IMPLIED_SUFFIXES:
        candidate = base.with_name(base.name + suffix) if suffix else base
        if candidate.is_file():
            return candidate
    return None


def _points(path: Path, document: Record) -> SparsePoints | None:
    listed = document.get("ply_file_path")
    return read_points(path / str(listed)) if listed and (path / str(listed)).is_file() else None


def _by_name(views: list[View]) -> list[View]:
    return sorted(views, key=lambda view: view.name)
