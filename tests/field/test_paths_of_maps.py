"""What people pass as a map: a path inside it, a splat of another name, a map far away or damaged."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from gsplatloc.arguments.export import parse_export_arguments
from gsplatloc.cli import export
from gsplatloc.scene.export import load_gaussians, ply_path, save_gaussians
from gsplatloc.scene.map_config import MapConfig, read_cameras, read_config, write_config
from gsplatloc.scene.map_frame import MapFrame
from gsplatloc.utils.errors import GSplatLocError
from tests.fuzz.seeds import a_map
from tests.scene.maps import make_gaussians


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A map."""
    path = tmp_path / "map"
    path.mkdir()
    a_map(path)
    save_gaussians(path, 5, make_gaussians())
    return path


def exported(*words: object) -> None:
    export.main(parse_export_arguments([*map(str, words)]))


@pytest.mark.parametrize("inside", ["config.json", "point_cloud", "point_cloud/iteration_5/point_cloud.ply"])
def test_a_path_inside_a_map_names_its_folder(folder: Path, inside: str) -> None:
    with pytest.raises(GSplatLocError, match=f"pass the folder of the map, {folder}$"):
        read_config(folder / inside)
    with pytest.raises(GSplatLocError, match="pass the folder of a map"):
        read_cameras(ply_path(folder, 5))


def test_the_content_of_a_splat_decides_and_not_its_name(folder: Path, tmp_path: Path) -> None:
    shutil.copy(ply_path(folder, 5), tmp_path / "scene.3dgs")
    assert len(load_gaussians(tmp_path / "scene.3dgs")) == 5
    with zipfile.ZipFile(tmp_path / "splat.zip", "w") as archive:
        archive.writestr("notes.txt", "text")
    for path in (tmp_path / "splat.zip", folder / "config.json"):
        with pytest.raises(GSplatLocError, match=f"splat.* {path.name}|splat.*{path.name}"):
            load_gaussians(path)


def test_the_splat_of_a_map_far_away_says_where_it_is(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported("-m", folder, "--output", tmp_path / "a.splat")
    assert "coordinates" not in capsys.readouterr().out
    write_config(folder, MapConfig("scene", frame=MapFrame((448262.0, 5411932.0, 312.0), 0.001)))
    exported("-m", folder, "--output", tmp_path / "b.splat")
    said = capsys.readouterr().out
    assert (
        "x_scene = origin + unit * x" in said and "(448262.0, 5411932.0, 312.0)" in said and "0.001" in said
    )


@pytest.mark.parametrize("broken", ["config.json", "landmarks.safetensors"])
def test_no_small_map_is_made_of_a_broken_one(folder: Path, tmp_path: Path, broken: str) -> None:
    path = folder / broken
    if path.suffix == ".json":
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    else:
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(GSplatLocError, match=broken):
        exported("-m", folder, "--map", tmp_path / "small")
    assert not (tmp_path / "small").exists()
