"""config.json and cameras.json of a map: how it was made, and its mapping views."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from gsplatloc.scene.cameras import Camera, PosedCamera, View
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json, write_json
from gsplatloc.utils.version import version

CAMERAS_NAME = "cameras.json"
_INTRINSICS = ("fx", "fy", "cx", "cy")
_FORMAT = 1  # raised whenever older files can no longer be read


@dataclass(frozen=True)
class MapConfig:
    """How a map was made."""

    source_path: str  # absolute path of the scene
    scene: SceneOptions = field(default_factory=SceneOptions)  # how it was read
    preset: str = "paper"
    extractor: str = ""  # version of the descriptors' extractor; empty if there are none
    top_k: int = 0  # keypoints per mapping image
    training: dict[str, Any] = field(default_factory=dict)  # all options of the run; nothing reads them
    version: str = field(default_factory=version)  # of gsplatloc


def config_path(map_dir: Path | str) -> Path:
    return Path(map_dir) / "config.json"


def write_config(map_dir: Path | str, config: MapConfig) -> None:
    """Write config.json, atomically."""
    write_json(config_path(map_dir), {"format": _FORMAT, **asdict(config)})


def read_config(map_dir: Path | str) -> MapConfig:
    """Read config.json; raises GSplatLocError if the folder holds no map of this format."""
    path = config_path(map_dir)
    if not path.is_file():
        raise GSplatLocError(f"expected a map in {map_dir}, found no config.json: run train.py -m {map_dir}")
    values = read_json(path)
    found = values.pop("format", None) if isinstance(values, dict) else None
    if found != _FORMAT:
        raise GSplatLocError(f"expected format {_FORMAT} in {path}, found {found}: train this map anew")
    try:
        config = MapConfig(**(values | {"scene": SceneOptions(**values["scene"])}))
        if not isinstance(config.source_path, str) or not isinstance(config.scene.resolution, int | None):
            raise TypeError("a source_path that is no string, or a resolution that is no integer")
        return config
    except (KeyError, TypeError) as error:
        raise GSplatLocError(
            f"expected a map's settings in {path}, found {error}: train this map anew"
        ) from None


def map_extractor(map_dir: Path | str) -> str | None:
    """The name of the extractor that made a map's descriptors; None if config.json has none."""
    if not config_path(map_dir).is_file():
        return None
    return read_config(map_dir).extractor.partition("-")[0] or None  # names are identifiers


def write_cameras(map_dir: Path | str, views: Sequence[View]) -> None:
    """Write cameras.json in the format of splat viewers: camera centres and camera-to-world rotations."""
    entries = []
    for index, view in enumerate(views):
        camera, world_from_cam = view.camera, se3.inverse(view.cam_from_world)
        entries.append(
            {
                "id": index,
                "img_name": view.name,
                "position": world_from_cam[:3, 3].tolist(),
                "rotation": world_from_cam[:3, :3].tolist(),
                **asdict(camera),
            }
        )
    write_json(Path(map_dir) / CAMERAS_NAME, entries)


def read_cameras(map_dir: Path | str) -> list[PosedCamera]:
    """The mapping views that `write_cameras` wrote; raises GSplatLocError if there are none."""
    path = Path(map_dir) / CAMERAS_NAME
    try:
        return [_posed_camera(entry) for entry in read_json(path)]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise GSplatLocError(f"expected cameras in {path}, found {error!r}: train this map anew") from None


def _posed_camera(entry: dict[str, Any]) -> PosedCamera:
    size = (int(entry[key]) for key in ("width", "height"))
    intrinsics = (float(entry[key]) for key in _INTRINSICS)
    rotation, position = (torch.tensor(entry[key], dtype=torch.float64) for key in ("rotation", "position"))
    world_from_cam = se3.from_rotation_translation(rotation.reshape(3, 3), position.reshape(3))
    camera = Camera(*size, *intrinsics)
    return PosedCamera(camera, se3.inverse(world_from_cam), entry["img_name"])


def longest_side(map_dir: Path | str) -> int | None:
    """The longest side in pixels of the mapping images; None without a cameras.json."""
    path = Path(map_dir) / CAMERAS_NAME
    if not path.is_file():
        return None
    try:
        sides = [int(entry[side]) for entry in read_json(path) for side in ("width", "height")]
        return max(sides, default=None)
    except (KeyError, TypeError, ValueError) as error:
        raise GSplatLocError(f"expected cameras in {path}, found {error!r}: train this map anew") from None
