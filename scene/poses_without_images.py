"""Camera poses whose images are gone: cameras.json, transforms.json, or a COLMAP model."""

from pathlib import Path

from gsplatloc.scene.cameras import PosedCamera
from gsplatloc.scene.colmap_model import read_model
from gsplatloc.scene.images import undistorted_camera
from gsplatloc.scene.map_config import CAMERAS_NAME, read_cameras
from gsplatloc.scene.readers.colmap import model_folders
from gsplatloc.scene.readers.poses import rigid_from_matrix
from gsplatloc.scene.readers.transforms import (
    frames_of,
    listed_image,
    pose_of,
    read_document,
)
from gsplatloc.scene.readers.transforms_camera import camera_model_of
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json


def read_posed_cameras(path: Path | str) -> list[PosedCamera]:
    """The cameras of a file or folder: pinhole, of the undistorted images; those without a pose left out.

    Raises `GSplatLocError` if there are none.
    """
    path = Path(path)
    if path.is_dir() and (path / "transforms.json").is_file():
        path = path / "transforms.json"
    if path.is_dir() and not (path / CAMERAS_NAME).is_file():
        found = _of_colmap(path)
    elif path.is_file() and isinstance(read_json(path), dict):
        found = _of_transforms(path)
    else:
        found = read_cameras(path)
    if not found:
        raise GSplatLocError(f"expected cameras with finite poses in {path}, found none: check --cameras")
    return found


def _of_transforms(path: Path) -> list[PosedCamera]:
    document, cameras = read_document(path), []
    try:
        for frame in frames_of(document, "frames", path):
            name = listed_image(frame)
            camera_model, pose = camera_model_of({**document, **frame}, (0, 0)), pose_of(frame, Path(name))
            if pose is not None:
                cameras.append(PosedCamera(undistorted_camera(camera_model), pose, name))
    except GSplatLocError as error:
        raise GSplatLocError(f"{path}: {error}") from None
    return cameras


def _of_colmap(folder: Path) -> list[PosedCamera]:
    models = model_folders(folder)
    if not models:
        raise GSplatLocError(
            f"expected {CAMERAS_NAME}, transforms.json or a COLMAP model in {folder}, found none: check"
            " --cameras"
        )
    model, cameras = read_model(models[0]), []
    for image in sorted(model.images, key=lambda image: image.name):
        pose = rigid_from_matrix(image.cam_from_world, f"the pose of {image.name}")
        if pose is not None:
            camera = undistorted_camera(model.camera_models[image.camera_id])
            cameras.append(PosedCamera(camera, pose, image.name))
    return cameras
