"""Recordings of phones: frames with poses of the phone's own tracking, in metres, and depth of its sensor.

Images stay as the app stored them, and poses and intrinsics are of the images as stored: of the sensor,
however the phone was held, or of the image that the app has turned (Record3D).
"""

import math
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gsplatloc.scene.cameras import PoseConvention, Scene, View
from gsplatloc.scene.image_files import image_suffixes
from gsplatloc.scene.images import CameraModel, DepthDecoder, image_size
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.scene.readers.poses import rigid_from_matrix
from gsplatloc.scene.readers.tally import Tally
from gsplatloc.scene.readers.views import make_view, split_test_views
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError, quoted

DEPTH_SUFFIXES = frozenset({".png", ".npy", ".depth", ".exr"})
_LARGEST = 1e6  # of an intrinsic in pixels; more is a damaged file
_OPENGL_FROM_OPENCV = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))


@dataclass(frozen=True)
class PhoneFrame:
    """One image of a recording."""

    image: Path
    intrinsics: Sequence[float] | None  # fx fy cx cy in pixels, from the corner of an image of `size`
    world_from_camera: np.ndarray | None  # [4, 4] as it is stored; None if the frame has no pose
    size: tuple[int, int] | None = None  # width and height; None for those of the image
    depth: Path | None = None
    decode: DepthDecoder | None = None  # of `depth`; None = as images and arrays of other layouts


def scene_of_frames(
    path: Path, frames: Iterable[PhoneFrame], options: SceneOptions, tally: Tally, convention: PoseConvention
) -> Scene:
    """The scene of at most `options.frames` frames that have an image and a finite pose.

    Or of all frames with intrinsics, at the identity, unless `options.require_poses`.
    """
    if options.require_poses:
        chosen, expected = thinned(_posed(path, frames, tally), options.frames, tally), "poses"
    else:
        chosen, expected = _calibrated(frames, tally), "intrinsics"
    views = []
    for frame in chosen:
        with tally.damaged(frame.image, options):
            views.append(_view(path, frame, options, convention))
    if not views:
        raise tally.nothing_left(f"images with {expected} in {path}", "export the recording again")
    scene = tally.scene(path, *split_test_views(views, options), convention=convention)
    return replace(scene, rough_poses=True)


def _calibrated(frames: Iterable[PhoneFrame], tally: Tally) -> list[PhoneFrame]:
    """The frames that have intrinsics, with the identity as their poses."""
    found = []
    for frame in frames:
        tally.found += 1
        if frame.intrinsics is None:
            tally.leave_out("no intrinsics")
        else:
            found.append(replace(frame, world_from_camera=np.eye(4)))
    return found


def _posed(path: Path, frames: Iterable[PhoneFrame], tally: Tally) -> list[PhoneFrame]:
    """The frames that have intrinsics, and a finite pose other than that of the frame before."""
    posed: list[PhoneFrame] = []
    still: list[PhoneFrame] = []
    last: np.ndarray | None = None  # pose of the frame before
    for frame in frames:
        tally.found += 1
        if frame.world_from_camera is None or frame.intrinsics is None:
            tally.leave_out("no pose or no intrinsics")
        elif not np.isfinite(frame.world_from_camera).all():
            tally.leave_out("their poses are not finite")
        elif last is not None and np.array_equal(frame.world_from_camera, last):
            still.append(frame)
        else:
            posed.append(frame)
            last = frame.world_from_camera
    if still and len(posed) == 1:
        raise _untracked(path, [*posed, *still])
    tally.leave_out("the same pose as the frame before: tracking stood still", len(still))
    return posed


def _untracked(path: Path, frames: list[PhoneFrame]) -> GSplatLocError:
    images = frames[0].image.parent
    action = f"gsplatloc map {shlex.quote(str(images))} -m OUT finds poses"
    if images == path:  # where it would read this recording
        action = "copy the images into a folder of their own, for which gsplatloc map finds poses"
    return GSplatLocError(
        f"expected poses of a phone's tracking in {quoted(path)}, found the same pose for all {len(frames)}"
        f" images, as of a front camera: {action}"
    )


def thinned(frames: list[PhoneFrame], count: int, tally: Tally) -> list[PhoneFrame]:
    """One frame of each of `count` equal stretches: the largest file, since blurred JPEGs are small."""
    if len(frames) <= count:
        return frames
    tally.leave_out(f"more than {count} frames", len(frames) - count)
    edges = np.linspace(0, len(frames), count + 1).round().astype(int)
    stretches = (frames[start:end] for start, end in zip(edges, edges[1:]))
    return [max(stretch, key=lambda frame: _bytes(frame.image)) for stretch in stretches]


def pose_from_quaternion(quaternion_xyzw: Sequence[float], position: Sequence[float]) -> np.ndarray:
    """[4, 4]; not finite if the numbers are not, or if they are no rotation."""
    x, y, z, w = quaternion_xyzw
    quaternion = torch.tensor([w, x, y, z], dtype=torch.float64)
    norm = float(quaternion.norm())
    if not 1e-6 < norm < 1e6:
        return np.full((4, 4), np.nan)
    rotation = se3.rotation_from_quaternion(quaternion)
    return se3.from_rotation_translation(rotation, torch.tensor(position, dtype=torch.float64)).numpy()


def numbers(value: Any, count: int) -> np.ndarray | None:
    """The `count` numbers in a list of a JSON document, of any nesting; None if it holds other ones."""
    try:
        found = np.array(value, dtype=np.float64).ravel()
    except (TypeError, ValueError, OverflowError):
        return None
    return found if len(found) == count else None


def numbered(folder: Path, suffixes: frozenset[str], prefix: str = "") -> dict[int, Path]:
    """Files `PREFIX000012.jpg` of a folder by their number, whatever the case of their suffix."""
    found: dict[int, Path] = {}
    for file in sorted(folder.iterdir()) if folder.is_dir() else []:
        number = file.stem.removeprefix(prefix)
        if file.suffix.lower() in suffixes and number.isascii() and number.isdigit() and len(number) < 19:
            found.setdefault(int(number), file)
    return found


def numbered_images(folder: Path, prefix: str = "") -> dict[int, Path]:
    """The images of a folder by their number."""
    return numbered(folder, image_suffixes(), prefix)


def _view(path: Path, frame: PhoneFrame, options: SceneOptions, convention: PoseConvention) -> View:
    assert frame.world_from_camera is not None and frame.intrinsics is not None
    world_from_cam = rigid_from_matrix(frame.world_from_camera, f"the pose of {quoted(frame.image.name)}")
    assert world_from_cam is not None  # it is finite
    if convention.opengl_axes:
        world_from_cam = world_from_cam @ _OPENGL_FROM_OPENCV
    model = _camera_model(frame)
    name = frame.image.relative_to(path).as_posix() if frame.image.is_relative_to(path) else frame.image.name
    return make_view(
        name, frame.image, model, se3.inverse(world_from_cam), options, frame.depth, decode=frame.decode
    )


def _camera_model(frame: PhoneFrame) -> CameraModel:
    assert frame.intrinsics is not None
    fx, fy, cx, cy = (float(value) for value in frame.intrinsics)
    stored = image_size(frame.image)
    width, height = frame.size or stored
    plausible = 0 < width < _LARGEST and 0 < height < _LARGEST
    if not plausible or not all(math.isfinite(v) and 0 < v < _LARGEST for v in (fx, fy, cx, cy)):
        raise GSplatLocError(
            f"expected positive width, height, fx, fy, cx and cy for {quoted(frame.image)}, found"
            f" {quoted([width, height, fx, fy, cx, cy])}: export the recording again"
        )
    if (width > height) != (stored[0] > stored[1]) and cx < height and cy < width:
        width, height = height, width  # named as the phone was held, not as the image is
    return CameraModel("PINHOLE", width, height, (fx, fy, cx, cy))


def _bytes(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
