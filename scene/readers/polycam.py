"""Polycam's raw data (iOS, developer mode): `keyframes/` with a JSON file, image and depth per keyframe.

Files are named by the same timestamp. `t_00` to `t_23` are the rows of the camera-to-world matrix, with
OpenGL axes. If Polycam optimized the poses, they are in corrected_cameras/ and belong to the undistorted
images in corrected_images/. Depth is in millimetres; confidence is 0 where it is low.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gsplatloc.scene.cameras import PoseConvention, Scene, View
from gsplatloc.scene.readers import READERS
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.scene.readers.phone_depth import PhoneDepth
from gsplatloc.scene.readers.phones import (
    DEPTH_SUFFIXES,
    PhoneFrame,
    numbered,
    numbered_images,
    numbers,
    scene_of_frames,
)
from gsplatloc.scene.readers.tally import Tally
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json

_MATRIX = [f"t_{row}{column}" for row in range(3) for column in range(4)]
_INTRINSICS = ["fx", "fy", "cx", "cy"]
_BORDER = 15 / 1024  # of the width of undistorted images, which may be black
_JSON = frozenset({".json"})


@READERS.register(
    "polycam",
    help="keyframes/ (Polycam's raw data)",
    priority=16,
)
class PolycamReader:
    """Reads Polycam's raw data: the optimized poses if there are any, else ARKit's."""

    def is_recording(self, path: Path) -> bool:
        return True

    def matches(self, path: Path) -> bool:
        return (path / "keyframes" / "cameras").is_dir() or _is_corrected(path)

    def read(self, path: Path, options: SceneOptions) -> Scene:
        corrected, tally = _is_corrected(path), Tally()
        frames = list(_frames(path, "corrected_" if corrected else "", options.images, tally))
        scene = scene_of_frames(path, frames, options, tally, PoseConvention(opengl_axes=True))
        if not corrected:
            return scene
        return replace(scene, train=_bordered(scene.train), test=_bordered(scene.test))


def _is_corrected(path: Path) -> bool:
    return all((path / "keyframes" / f"corrected_{kind}").is_dir() for kind in ("cameras", "images"))


def _frames(path: Path, kind: str, images_folder: str | None, tally: Tally) -> Iterator[PhoneFrame]:
    folder = path / "keyframes"
    images = numbered_images(path / images_folder if images_folder else folder / f"{kind}images")
    cameras = numbered(folder / f"{kind}cameras", _JSON)
    depths = numbered(folder / "depth", DEPTH_SUFFIXES)
    confidences = numbered_images(folder / "confidence")
    for number, image in sorted(images.items()):
        if number not in cameras:
            yield PhoneFrame(image, None, None)
            continue
        document = read_json(cameras[number])
        if not isinstance(document, dict):
            raise GSplatLocError(f"expected a camera in {cameras[number]}, found none: export it again")
        rows = numbers([document.get(key) for key in _MATRIX], 12)
        intrinsics = numbers([document.get(key) for key in _INTRINSICS], 4)
        size = numbers([document.get(key) for key in ("width", "height")], 2)
        yield PhoneFrame(
            image,
            None if intrinsics is None else intrinsics.tolist(),
            None if rows is None else np.vstack([rows.reshape(3, 4), [0.0, 0.0, 0.0, 1.0]]),
            None if size is None or not np.isfinite(size).all() else (int(size[0]), int(size[1])),
            depths.get(number),
            PhoneDepth(confidences.get(number)),
        )


@dataclass(frozen=True)
class BorderMask:
    """[H, W] bool, False along the border, where undistortion may have left black pixels."""

    width: int
    height: int

    def __call__(self) -> np.ndarray:
        border = max(1, round(_BORDER * max(self.width, self.height)))
        mask = np.zeros((self.height, self.width), bool)
        mask[border:-border, border:-border] = True
        return mask


def _bordered(views: list[View]) -> list[View]:
    return [replace(view, load_mask=BorderMask(view.camera.width, view.camera.height)) for view in views]
