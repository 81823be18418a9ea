"""Layout 2: a COLMAP model (`sparse/0`, `sparse` or the folder itself) beside `images/`.

pycolmap reads it: binary or text, with COLMAP 4's rigs and frames or without, and any camera model.
"""

from pathlib import Path

import numpy as np
import pycolmap

from gsplatloc.scene.cameras import Scene, SparsePoints, View
from gsplatloc.scene.images import CameraModel
from gsplatloc.scene.readers import READERS
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.scene.readers.poses import rigid_from_matrix
from gsplatloc.scene.readers.views import make_view, report_skipped, split_test_views
from gsplatloc.utils.errors import GSplatLocError

_MODEL_FILES = ("images.bin", "images.txt")


@READERS.register(
    "colmap",
    help="images/ with a COLMAP model in sparse/0 (binary or text)",
    # Before transforms.json, which nerfstudio writes beside the model that it was made from.
    priority=40,
)
class ColmapReader:
    """Reads layout 2. The scale of the scene is that of the model."""

    def matches(self, path: Path) -> bool:
        return find_model(path) is not None

    def read(self, path: Path, options: SceneOptions) -> Scene:
        model = find_model(path)
        if model is None:
            raise GSplatLocError(
                f"expected a COLMAP model in {path / 'sparse' / '0'}, found none: run COLMAP"
            )
        reconstruction = _load(model)
        views = _read_views(path, reconstruction, options)
        train, test = split_test_views(views, options)
        return Scene(path.resolve().name, path, train, test, sparse_points(reconstruction))


def find_model(path: Path) -> Path | None:
    """The folder of the model: `sparse/0` first, then the other places where COLMAP's tools write it."""
    sparse = path / "sparse"
    numbered = sorted(sparse.iterdir()) if sparse.is_dir() else []
    for folder in (sparse / "0", sparse, *numbered, path):
        if any((folder / name).is_file() for name in _MODEL_FILES):
            return folder
    return None


def sparse_points(reconstruction: pycolmap.Reconstruction) -> SparsePoints | None:
    """The 3D points of the model; None if it has none."""
    points = reconstruction.points3D.values()
    if not points:
        return None
    colors = np.array([point.color for point in points])
    return SparsePoints(np.array([point.xyz for point in points]), colors)


def _load(model: Path) -> pycolmap.Reconstruction:
    try:
        return pycolmap.Reconstruction(str(model))
    except (ValueError, RuntimeError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise GSplatLocError(f"expected a COLMAP model in {model}, found {reason}: export it again") from None


def _read_views(path: Path, reconstruction: pycolmap.Reconstruction, options: SceneOptions) -> list[View]:
    folder = path / (options.images or "images")
    if not folder.is_dir():
        raise GSplatLocError(f"expected the images in {folder}, found no such folder: name it with --images")
    camera_models = {key: CameraModel.from_colmap(camera) for key, camera in reconstruction.cameras.items()}
    posed = [image for image in reconstruction.images.values() if image.has_pose]
    views = []
    for image in posed:
        image_path = folder / image.name
        cam_from_world = rigid_from_matrix(image.cam_from_world().matrix(), f"the pose of {image.name}")
        if cam_from_world is not None and image_path.is_file():
            name = Path(image.name).as_posix()
            views.append(make_view(name, image_path, camera_models[image.camera_id], cam_from_world, options))
    if not views:
        listed = posed[0].name if posed else "the images of the model"
        raise GSplatLocError(f"expected images like {listed} in {folder}, found none: name it with --images")
    report_skipped(path, len(posed) - len(views), f"not in {folder}")
    return views
