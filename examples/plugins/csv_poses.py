"""A reader of scenes in one file: images beside a table of poses.

GSPLATLOC_PLUGINS=examples/plugins/csv_poses.py gsplatloc train -s SCENE -m OUT --preset cpu

SCENE/poses.csv has a header line and the columns name fx fy cx cy qw qx qy qz tx ty tz: an image below
SCENE/images, its intrinsics in pixels (0, 0 is the corner of the image) and its pose cam_from_world.
"""

import csv
from pathlib import Path

import numpy as np
import torch

from gsplatloc.scene.cameras import Scene, View
from gsplatloc.scene.images import CameraModel, image_size
from gsplatloc.scene.readers import READERS
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.scene.readers.views import make_view, split_test_views
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError

_TABLE = "poses.csv"
_NUMBERS = ("fx", "fy", "cx", "cy", "qw", "qx", "qy", "qz", "tx", "ty", "tz")


@READERS.register("csv", help="images/ and poses.csv")
class CsvReader:
    """`Reader` of `poses.csv`. Images stay on disk: a view decodes its image when it is asked for."""

    def matches(self, path: Path) -> bool:
        return (path / _TABLE).is_file()

    def read(self, path: Path, options: SceneOptions) -> Scene:
        with (path / _TABLE).open(newline="", encoding="utf-8") as file:
            views = [_view(path, row, options) for row in csv.DictReader(file)]
        train, test = split_test_views(views, options)  # --eval holds out every 8th image
        return Scene(path.resolve().name, path, train, test)


def _view(path: Path, row: dict[str, str], options: SceneOptions) -> View:
    try:
        fx, fy, cx, cy, *pose = (float(row[column]) for column in _NUMBERS)
    except (KeyError, TypeError, ValueError) as error:
        raise GSplatLocError(
            f"expected the columns name {' '.join(_NUMBERS)} in {path / _TABLE}, found {error}: rewrite it"
        ) from None
    image = path / "images" / row["name"]
    width, height = image_size(image)
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    quaternion, translation = torch.tensor(pose[:4]).double(), torch.tensor(pose[4:]).double()
    rotation = se3.rotation_from_quaternion(quaternion)
    cam_from_world = se3.from_rotation_translation(rotation, translation)
    return make_view(row["name"], image, CameraModel.pinhole(width, height, matrix), cam_from_world, options)
