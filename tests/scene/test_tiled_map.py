"""The file that lists the tiles of a map."""

from pathlib import Path

import pytest

from gsplatloc.scene.tiled_map import TILES_NAME, Tile, is_tiled, read_tiles, write_tiles
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json, write_json

TILES = [Tile("tiles/000", 80, 12, "a1", 1000, 200, 3.5, 700.0), Tile("tiles/001", 75, 9)]


def test_tiles_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert not is_tiled(tmp_path)
    write_tiles(tmp_path, TILES)
    assert is_tiled(tmp_path)
    assert read_tiles(tmp_path) == TILES


@pytest.mark.parametrize(
    "change",
    [{"format": "other"}, {"tiles": []}, {"tiles": [{"folder": "tiles/000"}]}, {"tiles": 3}],
    ids=["format", "none", "fields", "type"],
)
def test_a_damaged_file_is_a_users_error(tmp_path: Path, change: dict) -> None:
    write_tiles(tmp_path, TILES)
    write_json(tmp_path / TILES_NAME, read_json(tmp_path / TILES_NAME) | change)
    with pytest.raises(GSplatLocError, match="map the scene again"):
        read_tiles(tmp_path)


@pytest.mark.parametrize("folder", ["../elsewhere", "/elsewhere"])
def test_a_tile_outside_of_the_maps_folder_is_refused(tmp_path: Path, folder: str) -> None:
    write_tiles(tmp_path, [Tile(folder, 1, 0)])
    with pytest.raises(GSplatLocError, match="outside"):
        read_tiles(tmp_path)
