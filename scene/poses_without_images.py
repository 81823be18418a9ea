"""Camera poses whose images are gone: cameras.json, transforms.json, or a COLMAP model."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from gsplatloc.scene.cameras import Camera, PosedCamera
from gsplatloc.scene.map_config import read_cameras
from gsplatloc.scene.readers.poses import rigid_from_matrix
from gsplatloc.utils import se3
from gsplatloc.utils.colmap import pycolmap
from gsplatloc.utils.errors import GSplatLocError, quoted
from gsplatloc.utils.io import read_json

_OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
_ERRORS = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError)


def read_posed_cameras(path: Path | str) -> list[PosedCamera]:
    """The cameras of a file or folder, as pinhole cameras: distortion is left out.

    Raises `GSplatLocError` if there are none.
    """
    path = Path(path)
    if path.is_dir() and (path / "transforms.json").is_file():
        path = path / "transforms.json"
    try:
        if path.is_dir() and not (path / "cameras.json").is_file():
            found = _of_colmap(path)
        else:
            frames = path.suffix == ".json" and isinstance(read_json(path), dict)
            found = _of_transforms(read_json(path)) if frames else read_cameras(path)
    except _ERRORS as error:
        raise GSplatLocError(
            f"expected cameras.json, transforms.json or a COLMAP model in {path}, found"
            f" {quoted(repr(error))}: check --cameras"
        ) from None
    if not found:
        raise GSplatLocError(f"expected cameras with finite poses in {path}, found none: check --cameras")
    return found


def _of_transforms(document: dict[str, Any]) -> list[PosedCamera]:
    """Frames of a transforms.json: world_from_cam in OpenGL axes, intrinsics of the frame or of all."""
    cameras = []
    for frame in document["frames"]:
        values = document | frame
        width, height = int(values["w"]), int(values["h"])
        fx = float(values["fl_x"] if "fl_x" in values else width / 2 / np.tan(values["camera_angle_x"] / 2))
        fy = float(values.get("fl_y", fx))
        center = float(values.get("cx", width / 2)), float(values.get("cy", height / 2))
        name = str(frame["file_path"])
        matrix = np.array(frame["transform_matrix"], np.float64) @ _OPENCV_FROM_OPENGL
        world_from_cam = rigid_from_matrix(matrix, f"the camera {quoted(name)}")
        if world_from_cam is not None and min(width, height, fx, fy) > 0:
            camera = Camera(width, height, fx, fy, *center)
            cameras.append(PosedCamera(camera, se3.inverse(world_from_cam), name))
    return cameras


def _of_colmap(folder: Path) -> list[PosedCamera]:
    """The images of the model in a folder, in its `sparse/0` or in its `sparse`."""
    candidates = [folder, folder / "sparse" / "0", folder / "sparse"]
    for candidate in candidates:
        if any((candidate / f"images.{ending}").is_file() for ending in ("bin", "txt")):
            model = pycolmap.Reconstruction(str(candidate))
            break
    else:
        raise ValueError("no images.bin or images.txt")
    cameras = []
    for image in sorted(model.images.values(), key=lambda image: image.name):
        if not image.has_pose:
            continue
        matrix, camera = image.camera.calibration_matrix(), image.camera
        pinhole = Camera(camera.width, camera.height, matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2])
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3] = torch.from_numpy(np.array(image.cam_from_world().matrix()))
        cameras.append(PosedCamera(pinhole, pose, image.name))
    return cameras
