"""A scene mapped in tiles: each is an ordinary map, runs go on, and images are localized in it."""

import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gsplatloc.arguments.export import parse_export_arguments
from gsplatloc.arguments.presets import mapping_preset
from gsplatloc.arguments.refinement import parse_refine_arguments
from gsplatloc.arguments.render import parse_render_arguments, parse_view_arguments
from gsplatloc.cli import export, refine, render
from gsplatloc.localization.evaluation import pose_error
from gsplatloc.localization.io.poses import PoseRecord, read_poses, write_poses
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.options import LocalizerOptions
from gsplatloc.localization.tiles.localizer import TiledLocalizer
from gsplatloc.mapping.options import MappingOptions
from gsplatloc.mapping.tiles import train as tiles_train
from gsplatloc.mapping.tiles.train import TilesReport, train_tiles, visible_points
from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.scene.cameras import Camera, SparsePoints, View
from gsplatloc.scene.export import load_gaussians
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.map_config import MapConfig, read_cameras, read_config
from gsplatloc.scene.tiled_map import Tile, read_tiles
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.visualization import trajectory
from gsplatloc.visualization.rendering import ImageOptions, render_images

WORKER = tiles_train.Worker(1, threading.Event())


def options() -> MappingOptions:
    preset = mapping_preset("cpu")
    return replace(
        preset,
        schedule=replace(preset.schedule, iterations=10, holdout=0, pyramid=()),
        stopping=replace(preset.stopping, early_stop=0),
        initialization=replace(preset.initialization, init_max_points=3000),
        descriptors=replace(preset.descriptors, descriptors="none"),
        output=replace(preset.output, quiet=True),
    )


def make(scene: Path, output: Path, changed: MappingOptions | None = None, workers: int = 1) -> TilesReport:
    config = MapConfig(str(scene), SceneOptions(), "cpu")
    return train_tiles(read_scene(scene, SceneOptions()), output, changed or options(), config, 12, workers)


@pytest.fixture(scope="module")
def tiled(room_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TilesReport]:
    output = tmp_path_factory.mktemp("tiled") / "map"
    with pytest.MonkeyPatch.context() as patch:  # without the seconds that a process takes to begin
        patch.setattr(tiles_train, "_in_process", lambda *job: tiles_train.map_tile(*job[:-1]))
        return output, make(room_scene, output)


def test_a_tile_is_an_ordinary_map(tiled: tuple[Path, TilesReport]) -> None:
    output, report = tiled
    tiles = read_tiles(output)
    assert tiles == report.tiles and len(tiles) == 2
    assert sum(tile.core_views for tile in tiles) == 24 and all(tile.overlap_views for tile in tiles)
    assert all(tile.peak_mb > 50 and tile.landmarks > 100 for tile in tiles)
    assert len(read_cameras(output)) == 24
    assert read_config(output).extractor == read_config(output / tiles[0].folder).extractor
    for tile in tiles:
        assert len(read_cameras(output / tile.folder)) == tile.core_views + tile.overlap_views
        localizer = Localizer.load(output / tile.folder, LocalizerOptions(stages=()))
        assert len(localizer.splat_map.gaussians) == tile.gaussians


def test_tiles_that_are_mapped_side_by_side_are_the_same(
    tiled: tuple[Path, TilesReport], room_scene: Path, tmp_path: Path
) -> None:
    output, report = make(room_scene, tmp_path / "map", workers=2), tiled[0]
    for tile in output.tiles:
        for name in ("landmarks.safetensors", "point_cloud/iteration_10/point_cloud.ply"):
            path = Path(tile.folder) / name
            assert (tmp_path / "map" / path).read_bytes() == (report / path).read_bytes()
    with pytest.raises(GSplatLocError, match="--workers 0"):
        make(room_scene, tmp_path / "other", workers=0)


def test_images_are_localized_in_tiles(tiled: tuple[Path, TilesReport], room_scene: Path) -> None:
    localizer = TiledLocalizer.load(tiled[0], LocalizerOptions(stages=()))
    for view in read_scene(room_scene, SceneOptions()).test:
        found = localizer.localize(view.load_image(), view.camera)
        error = pose_error(found.final.cam_from_world, view.cam_from_world)
        assert error.translation_m < 0.05 and error.rotation_deg < 2
    assert set(localizer.tiles.numbers()) == {0, 1}
    assert localizer.splat_map.bytes_read() > 100_000


def test_a_tile_that_is_done_is_not_mapped_again(
    tiled: tuple[Path, TilesReport], room_scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, report = tiled
    mapped: list[Path] = []
    monkeypatch.setattr(tiles_train, "_in_process", lambda part, folder, *_: mapped.append(folder) or _fail())
    loud = replace(options().output, quiet=False)  # changes no map, nor does a cache elsewhere
    cache = replace(options().descriptors, cache_dir=str(output / "cache" / ".." / "cache" / "features"))
    assert make(room_scene, output, replace(options(), output=loud, descriptors=cache)).tiles == report.tiles
    (output / "tiles" / "001" / "tile.json").unlink()  # as a run that was stopped leaves it
    with pytest.raises(GSplatLocError, match="stopped"):
        make(room_scene, output)
    changed = replace(options(), schedule=replace(options().schedule, iterations=11))
    with pytest.raises(GSplatLocError, match="stopped"):
        make(room_scene, output, changed)
    assert [folder.name for folder in mapped] == ["001", "000"]


def test_a_map_in_tiles_is_exported_small(
    tiled: tuple[Path, TilesReport], room_scene: Path, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    export.main(parse_export_arguments(["-m", str(tiled[0]), "--map", str(small)]))
    assert read_tiles(small) == tiled[1].tiles
    view = read_scene(room_scene, SceneOptions()).test[0]
    found = TiledLocalizer.load(small).localize(view.load_image(), view.camera)
    assert pose_error(found.final.cam_from_world, view.cam_from_world).translation_m < 0.05
    with pytest.raises(GSplatLocError, match="--map FOLDER"):
        export.main(parse_export_arguments(["-m", str(tiled[0])]))


def test_test_images_are_rendered_each_in_its_tile(
    tiled: tuple[Path, TilesReport], room_scene: Path, tmp_path: Path
) -> None:
    words = f"-m {tiled[0]} --split test --output {tmp_path} --no_video --no_depth".split()
    render.main(parse_render_arguments(words))
    views, cameras = read_scene(room_scene, SceneOptions()).test, trajectory.test_cameras(tiled[0])
    tiles = [
        render_images(load_gaussians(tiled[0] / tile.folder), cameras, ImageOptions(depth=False))
        for tile in tiled[1].tiles
    ]
    chosen, differences = set(), []
    for view, *pictures in zip(views, *tiles, strict=True):
        rendered = cv2.imread(str((tmp_path / "rgb" / view.name).with_suffix(".png")))[..., ::-1]
        (number,) = (n for n, one in enumerate(pictures) if np.array_equal(one.images["rgb"], rendered))
        away = [np.abs(one.images["rgb"] - view.load_image().astype(float)).mean() for one in pictures]
        chosen.add(number)
        differences.append((away[number], away[1 - number]))
    here, elsewhere = np.mean(differences, 0)
    assert chosen == {0, 1} and here < elsewhere


def test_a_path_back_and_forth_between_two_tiles_reads_each_once(
    tiled: tuple[Path, TilesReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def load(folder: Path, iteration: int | None) -> Gaussians:
        read.append(folder.name)
        return load_gaussians(folder, iteration)

    cameras = trajectory.test_cameras(tiled[0])
    monkeypatch.setattr(render, "load_gaussians", load)
    monkeypatch.setattr(render, "find_cameras", lambda _: cameras * 2)
    words = f"-m {tiled[0]} --output {tmp_path} --no_video --no_depth".split()
    render.main(parse_render_arguments(words))
    assert sorted(read) == ["000", "001"]


def test_given_poses_are_refined_in_the_tiles_around_them(
    tiled: tuple[Path, TilesReport], room_scene: Path, tmp_path: Path
) -> None:
    views = read_scene(room_scene, SceneOptions()).test
    away = se3.se3_exp(torch.tensor([0.03, -0.02, 0.03, 0.01, -0.02, 0.01], dtype=torch.float64))
    given = {view.name: away @ view.cam_from_world for view in views}
    write_poses(tmp_path / "poses.txt", [PoseRecord(name, pose) for name, pose in given.items()])
    words = f"-m {tiled[0]} --poses {tmp_path}/poses.txt --output {tmp_path}/refined --quiet".split()
    refine.main(parse_refine_arguments(words))
    refined = read_poses(tmp_path / "refined" / "poses.txt")
    maps = [
        Localizer.load(tiled[0] / tile.folder, LocalizerOptions("given", ("gscpr",)))
        for tile in tiled[1].tiles
    ]
    for view in views:
        found, image = refined[view.name].cam_from_world, view.load_image()
        alone = [one.localize(image, view.camera, given[view.name]).final.pose() for one in maps]
        assert min(pose_error(found, pose).translation_m for pose in alone) < 1e-4


def test_a_map_in_tiles_is_viewed_tile_by_tile(tiled: tuple[Path, TilesReport]) -> None:
    with pytest.raises(GSplatLocError, match="in tiles: view one of them, such as .*000"):
        parse_view_arguments(["-m", str(tiled[0])]).check()


def _fail() -> None:
    raise GSplatLocError("stopped")


def test_a_tile_whose_process_fails_is_a_users_error(
    room_scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    scene, config = read_scene(room_scene, SceneOptions()), MapConfig(str(room_scene), SceneOptions(), "cpu")
    empty = replace(scene, train=[])
    with pytest.raises(GSplatLocError, match="exit code 1"):
        tiles_train._in_process(empty, tmp_path / "tile", options(), config, Tile("tile", 0, 0), WORKER)
    assert "expected training views" in capfd.readouterr().err


def test_points_of_a_tile_are_those_that_its_views_see() -> None:
    camera = Camera(64, 48, 50.0, 50.0, 32.0, 24.0)
    view = View("a", camera, torch.eye(4, dtype=torch.float64), Path("a.png"), lambda: np.zeros((48, 64, 3)))
    positions = np.array([[0, 0, 2.0], [0.1, 0, 2.5], [0, 0, -2], [5, 0, 2], [0, 0, 50], [0.2, 0.1, 3]])
    points = SparsePoints(positions, np.arange(18, dtype=np.uint8).reshape(6, 3))
    seen = visible_points(points, [view])
    assert seen is not None
    np.testing.assert_array_equal(seen.colors, points.colors[[0, 1, 5]])
    assert visible_points(SparsePoints(positions[2:3], points.colors[2:3]), [view]) is None


def test_too_few_views_for_a_tile_and_another_map_in_the_folder_are_users_errors(
    room_scene: Path, tmp_path: Path
) -> None:
    scene, config = read_scene(room_scene, SceneOptions()), MapConfig(str(room_scene), SceneOptions(), "cpu")
    with pytest.raises(GSplatLocError, match="--tile_views 3"):
        train_tiles(scene, tmp_path, options(), config, 3)
    taken = tmp_path / "point_cloud" / "iteration_7"
    taken.mkdir(parents=True)
    (taken / "point_cloud.ply").write_text("ply")
    with pytest.raises(GSplatLocError, match="another"):
        train_tiles(scene, tmp_path, options(), config, 12)
