"""Recordings of Stray Scanner (iOS): a video, a pose per frame of it, depth and confidence.

odometry.csv has a line per frame: `timestamp, frame, x, y, z, qx, qy, qz, qw` with a header, in newer
versions also `fx, fy, cx, cy`, in old ones `x` to `qw` alone, without; camera-to-world with OpenCV axes.
camera_matrix.csv is K of the frames of rgb.mp4. depth/000012.png is in millimetres, confidence/000012.png 0
to 2. The frames that are used are written beside the video; a folder rgb/ of extracted frames is read as is.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np

from gsplatloc.scene.cameras import PoseConvention, Scene
from gsplatloc.scene.readers import READERS
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.scene.readers.phone_depth import PhoneDepth
from gsplatloc.scene.readers.phones import (
    DEPTH_SUFFIXES,
    PhoneFrame,
    numbered,
    numbered_images,
    pose_from_quaternion,
    scene_of_frames,
)
from gsplatloc.scene.readers.poses import read_numbers
from gsplatloc.scene.readers.tally import Tally
from gsplatloc.scene.unpacking import made_beside
from gsplatloc.scene.videos import open_video, write_frame
from gsplatloc.utils.console import progress
from gsplatloc.utils.errors import GSplatLocError, quoted
from gsplatloc.utils.io import read_text

_POSE = ("x", "y", "z", "qx", "qy", "qz", "qw")
_INTRINSICS = ("fx", "fy", "cx", "cy")


@READERS.register(
    "stray_scanner",
    help="odometry.csv (Stray Scanner)",
    priority=17,
)
class StrayScannerReader:
    """Reads recordings of Stray Scanner. Line i of the odometry is frame i of the video."""

    def is_recording(self, path: Path) -> bool:
        return True

    def matches(self, path: Path) -> bool:
        return (path / "odometry.csv").is_file() and (path / "camera_matrix.csv").is_file()

    def read(self, path: Path, options: SceneOptions) -> Scene:
        rows, tally = _read_odometry(path / "odometry.csv"), Tally()
        matrix = read_numbers(path / "camera_matrix.csv")
        if matrix.size != 9:
            raise GSplatLocError(
                f"expected a 3x3 matrix in {path / 'camera_matrix.csv'}, found {matrix.size} numbers:"
                " export the recording again"
            )
        extracted = numbered_images(path / (options.images or "rgb"))
        images = extracted or _extract(path / "rgb.mp4", len(rows), options.frames, tally)
        frames = _frames(path, rows, matrix[[0, 4, 2, 5]].tolist(), images)
        convention = PoseConvention(quaternion="xyzw")
        return scene_of_frames(path, frames, options, tally, convention)


def _frames(
    path: Path, rows: list[dict[str, float]], shared: list[float], images: Mapping[int, Path]
) -> Iterator[PhoneFrame]:
    depths = numbered(path / "depth", DEPTH_SUFFIXES)
    confidences = numbered_images(path / "confidence")
    for index, image in sorted(images.items()):
        row = rows[index] if index < len(rows) else {}
        number = row.get("frame", index)
        intrinsics = [row[key] for key in _INTRINSICS] if set(_INTRINSICS) <= row.keys() else shared
        values = [row[key] for key in _POSE] if row else None
        yield PhoneFrame(
            image,
            intrinsics if np.isfinite(intrinsics).all() and min(intrinsics) > 0 else shared,
            None if values is None else pose_from_quaternion(values[3:], values[:3]),
            depth=depths.get(int(number) if np.isfinite(number) else index),
            decode=PhoneDepth(confidences.get(int(number) if np.isfinite(number) else index)),
        )


def _read_odometry(path: Path) -> list[dict[str, float]]:
    """The numbers of each line by the name of their column."""
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    names = [name.strip() for name in lines[0].split(",")] if lines else []
    if set(_POSE) <= set(names):
        lines = lines[1:]
    else:
        names = list(_POSE)
    rows = []
    for line in lines:
        words = line.split(",")
        try:
            if len(words) != len(names):
                raise ValueError
            rows.append(dict(zip(names, map(float, words))))
        except ValueError:
            raise GSplatLocError(
                f"expected {quoted(', '.join(names))} in each line of {path}, found {quoted(line)}: correct"
                " the line"
            ) from None
    return rows


def _extract(video: Path, total: int, most: int, tally: Tally) -> dict[int, Path]:
    """`most` frames of the video, evenly spread over its `total`, by their index, as JPEG files beside it."""
    wanted = np.unique(np.linspace(0, max(total - 1, 0), max(min(most, total), 1)).round().astype(int))
    if not video.is_file():
        raise GSplatLocError(f"expected a video {video} or images in rgb/, found neither: export it again")
    tally.found += total - len(wanted)
    tally.leave_out(f"more than {most} frames", total - len(wanted))
    settings = {"frames": total, "most": most}
    folder = made_beside(video, settings, lambda folder: _write_frames(video, folder, wanted.tolist()))
    return numbered_images(folder)


def _write_frames(video: Path, folder: Path, wanted: list[int]) -> None:
    """Write frames of a video as its sensor gave them: phones store how it was held beside, to be ignored."""
    folder.mkdir()
    capture = open_video(video)
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
    left = set(wanted)
    for index in progress(range(max(wanted) + 1), desc=f"frames of {video.name}"):
        if not capture.grab():  # the file may hold fewer frames
            break
        if index in left:
            decoded, frame = capture.retrieve()
            if decoded:
                write_frame(folder / f"{index:06d}.jpg", frame)
    capture.release()
    if not any(folder.iterdir()):
        raise GSplatLocError(
            f"expected a video in {video}, found none that can be decoded: convert it to H.264"
        )
