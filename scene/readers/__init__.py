"""Readers of scenes, one file per layout. A new layout is a new file and a line in `READERS`."""

from pathlib import Path
from typing import Protocol

from gsplatloc.scene.cameras import Scene
from gsplatloc.scene.readers.colmap import ColmapReader
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.scene.readers.posed_folders import PosedFoldersReader
from gsplatloc.scene.readers.replica import ReplicaReader
from gsplatloc.scene.readers.transforms import TransformsReader
from gsplatloc.scene.readers.tum_rgbd import TumRgbdReader
from gsplatloc.utils.errors import GSplatLocError


class Reader(Protocol):
    """Reads one layout. Reading parses poses and image headers only; pixels stay on disk."""

    layout: str  # what the folder holds, for people

    def matches(self, path: Path) -> bool:
        """Whether the folder has this layout, judged by the names in it."""
        ...

    def read(self, path: Path, options: SceneOptions) -> Scene:
        """Read the scene; raises `GSplatLocError` when the layout is right and its content is not."""
        ...


# In order of precedence: a folder made by our set-up scripts may carry a COLMAP model beside its splits.
READERS: tuple[Reader, ...] = (
    PosedFoldersReader(),
    ColmapReader(),
    TransformsReader(),
    TumRgbdReader(),
    ReplicaReader(),
)


def read_scene(path: Path | str, options: SceneOptions | None = None) -> Scene:
    """Read the scene in the folder `path`, whatever its layout among `READERS`."""
    path = Path(path).expanduser()
    if not path.is_dir():
        raise GSplatLocError(f"expected a scene folder at {path}, found none: check --source_path")
    for reader in READERS:
        if reader.matches(path):
            return reader.read(path, options or SceneOptions())
    known = "; ".join(reader.layout for reader in READERS)
    raise GSplatLocError(f"expected a scene in {path}, found no known layout: make it one of: {known}")
