"""All data of a scan by 3D Scanner App (iOS): a JSON file, image and depth per frame, in one folder.

`frame_00012.json` holds `cameraPoseARFrame`, the rows of the camera-to-world matrix with OpenGL axes, and
`intrinsics`, the rows of K for the image `frame_00012.jpg`. `depth_00012.png` is in millimetres,
`conf_00012.png` 0 where confidence is low. Depth is stored more often than images.
"""

from collections.abc import Iterator
from pathlib import Path

from gsplatloc.scene.cameras import PoseConvention, Scene
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


@READERS.register(
    "scanner_app",
    help="frame_00000.json (3D Scanner App)",
    priority=12,
)
class ScannerAppReader:
    """Reads scans of 3D Scanner App."""

    def is_recording(self, path: Path) -> bool:
        return True

    def matches(self, path: Path) -> bool:
        return next(path.glob("frame_*[0-9].json"), None) is not None

    def read(self, path: Path, options: SceneOptions) -> Scene:
        tally = Tally()
        convention = PoseConvention(opengl_axes=True)
        return scene_of_frames(path, _frames(path, options.images), options, tally, convention)


def _frames(path: Path, images_folder: str | None) -> Iterator[PhoneFrame]:
    images = numbered_images(path / (images_folder or "."), "frame_")
    cameras = numbered(path, frozenset({".json"}), "frame_")
    depths = numbered(path, DEPTH_SUFFIXES, "depth_")
    confidences = numbered_images(path, "conf_")
    for number, image in sorted(images.items()):
        document = read_json(cameras[number]) if number in cameras else {}
        if not isinstance(document, dict):
            raise GSplatLocError(f"expected a frame in {cameras[number]}, found none: export it again")
        pose = numbers(document.get("cameraPoseARFrame"), 16)
        matrix = numbers(document.get("intrinsics"), 9)
        yield PhoneFrame(
            image,
            None if matrix is None else matrix[[0, 4, 2, 5]].tolist(),
            None if pose is None else pose.reshape(4, 4),
            depth=depths.get(number),
            decode=PhoneDepth(confidences.get(number)),
        )
