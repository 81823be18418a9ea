"""config.json and cameras.json of a map: how it was made, and its mapping views."""

import math
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import torch

from gsplatloc.scene.cameras import Camera, PosedCamera, View
from gsplatloc.scene.map_folder import CAMERAS_NAME, config_path, require_map
from gsplatloc.scene.map_frame import MapFrame
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.scene.readers.poses import rigid_from_matrix
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError, decoding, quoted
from gsplatloc.utils.io import read_json, write_json
from gsplatloc.utils.version import version

_INTRINSICS = ("fx", "fy", "cx", "cy")
_LARGEST = 10**9  # of a whole number in config.json; more is a damaged file
_LARGEST_SIDE = 100_000  # pixels of a camera
_FORMAT = 1  # raised whenever older files can no longer be read


@dataclass(frozen=True)
class MapConfig:
    """How a map was made."""

    source_path: str  # absolute path of the scene
    scene: SceneOptions = field(default_factory=SceneOptions)  # how it was read
    preset: str = "paper"
    extractor: str = ""  # version of the descriptors' extractor; empty if there are none
    top_k: int = 0  # keypoints per mapping image
    training: dict[str, Any] = field(default_factory=dict)  # all options of the run
    version: str = field(default_factory=version)  # of gsplatloc
    frame: MapFrame = field(default_factory=MapFrame)  # of everything else in the map's folder
    metric: bool = True  # False: poses were computed of photos alone, so that the unit of length is arbitrary


def write_config(map_dir: Path | str, config: MapConfig) -> None:
    """Write config.json, atomically."""
    write_json(config_path(map_dir), {"format": _FORMAT, **asdict(config)})


def read_config(map_dir: Path | str) -> MapConfig:
    """Read config.json; raises GSplatLocError if the folder holds no map of this format."""
    path = config_path(map_dir)
    require_map(map_dir)
    values = read_json(path)
    found = values.pop("format", None) if isinstance(values, dict) else None
    if found != _FORMAT:
        raise GSplatLocError(
            f"expected format {_FORMAT} in {path}, found {quoted(found)}: train this map anew"
        )
    with decoding("a map's settings", path, "train this map anew"):
        parts = {"scene": SceneOptions(**values["scene"]), "frame": MapFrame(**values.get("frame", {}))}
        config = MapConfig(**(values | parts))
        _check_types(config)
        _check_types(config.scene)
        return config


def _check_types(options: MapConfig | SceneOptions) -> None:
    """Raise TypeError where a value of a file is of another type than its field."""
    kinds = get_type_hints(type(options))
    for name, kind in kinds.items():
        value = getattr(options, name)
        plain = [
            get_origin(part) or part for part in (get_args(kind) if isinstance(kind, UnionType) else [kind])
        ]
        number = float in plain and isinstance(value, int)
        if not number and (type(value) not in plain):
            raise TypeError(f"{name} = {value!r}")
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise ValueError(f"{name} = {quoted(value)}")


def map_extractor(map_dir: Path | str) -> str | None:
    """The name of the extractor that made a map's descriptors; None if config.json has none."""
    if not config_path(map_dir).is_file():
        return None
    return read_config(map_dir).extractor.partition("-")[0] or None  # names are identifiers


def map_frame(map_dir: Path | str | None) -> MapFrame:
    """The coordinates of a map: those of its scene if the folder has no config.json."""
    if map_dir is None or not config_path(map_dir).is_file():
        return MapFrame()
    return read_config(map_dir).frame


def map_antialiased(map_dir: Path | str) -> bool:
    """Whether a map was trained with `--antialiased`; False if the folder has no config.json."""
    if not config_path(map_dir).is_file():
        return False
    rendering = read_config(map_dir).training.get("rendering")
    return isinstance(rendering, dict) and rendering.get("antialiased") is True


def frame_of_splat(path: Path) -> MapFrame | None:
    """The coordinates of the Gaussians of a map; None for the splat of another program."""
    folder = path.parents[2] if len(path.parents) > 2 and path.parents[1].name == "point_cloud" else path
    return map_frame(folder) if config_path(folder).is_file() else None


def write_cameras(map_dir: Path | str, views: Sequence[View]) -> None:
    """Write cameras.json in the format of splat viewers: camera centres and camera-to-world rotations.

    They are in the map's coordinates, as the .ply file beside it is.
    """
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
    """The mapping views that `write_cameras` wrote, of a map or of a .json file.

    Raises GSplatLocError if there are none.

    3D Gaussian splatting's own files have no principal point: it is the image's centre. Without a name a
    camera has that of its `id`, and without `fy` it is `fx`.
    """
    path = Path(map_dir)
    path = path if path.suffix == ".json" else path / CAMERAS_NAME
    if not path.is_file():
        raise GSplatLocError(
            f"expected cameras of a map in {path}, found no file: pass the folder of a map, or train it anew"
        )
    with _entries(path) as entries:
        return [_posed_camera(entry) for entry in entries]


@contextmanager
def _entries(path: Path) -> Iterator[list[dict[str, Any]]]:
    """The entries of a cameras.json, none without one; errors within the body are those of the file."""
    with decoding("cameras", path, "restore it, or train anew"):
        entries = read_json(path) if path.is_file() else []
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError("no list of cameras")
        yield entries


def _size(entry: dict[str, Any]) -> tuple[int, int]:
    width, height = (int(entry[key]) for key in ("width", "height"))
    if not (0 < width <= _LARGEST_SIDE and 0 < height <= _LARGEST_SIDE):
        raise ValueError(f"{quoted(width)} x {quoted(height)} pixels")
    return width, height


def _posed_camera(entry: dict[str, Any]) -> PosedCamera:
    width, height = _size(entry)
    # Other programs leave out the name, the principal point or one focal length.
    assumed = {"cx": width / 2, "cy": height / 2, "img_name": str(entry.get("id", "")), "fy": entry.get("fx")}
    entry = {**assumed, **entry}
    fx, fy, cx, cy = (float(entry[key]) for key in _INTRINSICS)
    rotation, position = (torch.tensor(entry[key], dtype=torch.float64) for key in ("rotation", "position"))
    matrix = torch.cat([rotation.reshape(3, 3), position.reshape(3, 1)], 1)
    world_from_cam = rigid_from_matrix(matrix.numpy(), f"the camera {quoted(entry['img_name'])}")
    if world_from_cam is None or not (min(fx, fy) > 0 and math.isfinite(fx + fy + cx + cy)):
        raise ValueError(f"a camera that is not finite: {quoted(entry['img_name'])}")
    if not isinstance(entry["img_name"], str):
        raise TypeError(f"img_name = {entry['img_name']!r}")
    return PosedCamera(Camera(width, height, fx, fy, cx, cy), se3.inverse(world_from_cam), entry["img_name"])


def longest_side(map_dir: Path | str) -> int | None:
    """The longest side in pixels of the mapping images; None without a cameras.json."""
    with _entries(Path(map_dir) / CAMERAS_NAME) as entries:
        return max((side for entry in entries for side in _size(entry)), default=None)


def typical_focal(map_dir: Path | str) -> float | None:
    """The median focal length in pixels of the mapping images; None where cameras.json has none."""
    with _entries(Path(map_dir) / CAMERAS_NAME) as entries:
        focals = [float(entry["fx"]) for entry in entries if "fx" in entry]
        return statistics.median(focals) if focals else None
