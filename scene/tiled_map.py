"""Maps in tiles: a folder with an index and, for every tile, an ordinary map in a folder of its own.

OUT/config.json, cameras.json   where the map came from, and all its mapping views, in world coordinates
OUT/tiles.json                  the tiles
OUT/tiles.safetensors           descriptors of the mapping views, by which a query's tiles are found
OUT/tiles/000/ ...              the map of a tile: everything that reads a map reads it
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from gsplatloc.scene.map_folder import TILES_NAME
from gsplatloc.utils.errors import GSplatLocError, decoding, quoted
from gsplatloc.utils.io import read_json, write_json

_FORMAT = "gsplatloc-tiles-1"


@dataclass(frozen=True)
class Tile:
    """A tile of a map."""

    folder: str  # of its map, relative to the folder of the whole
    core_views: int  # mapping views that are in no other tile's core
    overlap_views: int  # mapping views of neighbouring tiles' cores that this tile was made of as well
    key: str = ""  # hash of all that its map depends on
    gaussians: int = 0
    landmarks: int = 0
    seconds: float = 0.0  # of mapping
    cpu_seconds: float = 0.0  # of all threads of the process that mapped it; 0 = unknown
    peak_mb: float = 0.0  # largest memory of the process that mapped it; 0 = unknown


def is_tiled(map_dir: Path | str) -> bool:
    """Whether a folder holds a map in tiles."""
    return (Path(map_dir) / TILES_NAME).is_file()


def write_tiles(map_dir: Path | str, tiles: Sequence[Tile]) -> None:
    """Write tiles.json, atomically."""
    write_json(Path(map_dir) / TILES_NAME, {"format": _FORMAT, "tiles": [asdict(tile) for tile in tiles]})


def read_tiles(map_dir: Path | str) -> list[Tile]:
    """Read tiles.json; raises `GSplatLocError` if it is missing, damaged or of another format."""
    path = Path(map_dir) / TILES_NAME
    values = read_json(path)
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        found = quoted(values.get("format") if isinstance(values, dict) else values)
        raise GSplatLocError(f"expected format {_FORMAT} in {path}, found {found}: map the scene again")
    with decoding("tiles", path, "map the scene again"):
        tiles = [Tile(**entry) for entry in values["tiles"]]
        if not tiles or any(_outside(tile.folder) for tile in tiles):
            raise ValueError("no tiles, or folders outside of the map's")
        return tiles


def _outside(folder: str) -> bool:
    path = Path(folder)
    return path.is_absolute() or ".." in path.parts
