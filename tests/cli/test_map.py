"""`gsplatloc map`: from photos to a map in one go, and on from where it was stopped."""

import shutil
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from gsplatloc.arguments.map import parse_map_arguments
from gsplatloc.cli import map as command
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.options import LocalizerOptions
from gsplatloc.mapping import resumable
from gsplatloc.mapping.options import PosingOptions
from gsplatloc.mapping.train import TrainingReport
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import View
from gsplatloc.scene.export import saved_iterations
from gsplatloc.scene.map_config import read_cameras, read_config
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from tests.scene import recordings

QUICK = ["--iterations", "12"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):  # noqa: ANN201
    def run(*words: str, code: int | None = None) -> str:
        with nullcontext() if code is None else pytest.raises(SystemExit) as ended:
            command.main(parse_map_arguments([*words, *QUICK]))
        assert ended is None or ended.value.code == code
        return capsys.readouterr().out

    return run


@pytest.fixture(scope="module")
def photos(room_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photos of a path through the room, in a folder whose name a shell would split."""
    folder = tmp_path_factory.mktemp("own") / "my photos"
    shutil.copytree(room_path / "train" / "rgb", folder)
    return folder


@pytest.fixture(scope="module")
def posed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photos posed once, as the folder scene/ of a map."""
    folder = tmp_path_factory.mktemp("posed")
    command.pose_photos(command.MapArguments(photos, folder), photos, folder)
    return folder


def test_photos_become_a_map_that_localizes_them(run, photos, posed, tmp_path) -> None:  # noqa: ANN001
    output = tmp_path / "my map"
    shutil.copytree(posed, output)
    printed = run(str(photos), "-m", str(output))
    assert len(read_scene(output / "scene").train) == len(read_cameras(output)) == 12
    assert not (output / "posing").exists() and not list(output.glob("checkpoint_*"))
    with Image.open(output / "first_look.png") as picture:
        assert picture.size[0] == 3 * 480 + 2 * 6
    assert "not in metres" in printed and not read_config(output).metric
    last = printed.strip().splitlines()[-1]
    assert last == f"next       gsplatloc localize -m '{output}' --queries FOLDER_OF_NEW_PHOTOS"
    view = read_scene(output / "scene").train[3]
    found = Localizer.load(output).localize(view.load_image(), view.camera)
    assert found.stages["initial"].ok


def test_what_is_finished_is_not_made_again(run, photos, posed, tmp_path, monkeypatch) -> None:  # noqa: ANN001
    shutil.copytree(posed, tmp_path / "m")
    monkeypatch.setattr(command, "pose_images", lambda *_: pytest.fail("posed again"))
    monkeypatch.setattr(command, "collect", lambda *_: pytest.fail("collected again"))
    run(str(photos), "-m", str(tmp_path / "m"))
    monkeypatch.setattr(resumable, "train", lambda *_: pytest.fail("trained again"))
    assert "the map is complete" in run(str(photos), "-m", str(tmp_path / "m"))
    assert run(str(photos), "-m", str(tmp_path / "m"), "--quiet") == ""
    with pytest.raises(GSplatLocError, match="without another map, found one"):
        run(str(photos), "-m", str(tmp_path / "m"), "--preset", "gpu")


@pytest.mark.parametrize(
    "left", ["config.json", "checkpoint_7.safetensors", "point_cloud/iteration_7/point_cloud.ply"]
)
def test_the_map_of_another_command_is_left_alone(run, photos: Path, tmp_path: Path, left: str) -> None:  # noqa: ANN001
    """That of `train -m`, finished or stopped, or of `from-splat`."""
    file = tmp_path / "m" / left
    file.parent.mkdir(parents=True)
    file.touch()
    with pytest.raises(GSplatLocError, match="without another map, found one"):
        run(str(photos), "-m", str(tmp_path / "m"))
    assert file.is_file() and not (tmp_path / "m" / "scene").exists()


def test_other_photos_are_not_mixed_into_a_map(run, photos: Path, tmp_path: Path) -> None:  # noqa: ANN001
    (tmp_path / "m" / "scene").mkdir(parents=True)
    with pytest.raises(GSplatLocError, match="move it away"):
        run(str(photos), "-m", str(tmp_path / "m"))


def collected(source: Path, output: Path, monkeypatch: pytest.MonkeyPatch, *, fails: bool, model: str) -> int:
    """The number of photos that a run collects, with posing that fails or succeeds."""

    def pose(images: Path, target: Path, work: Path, *_: object) -> None:
        assert not work.exists()
        work.mkdir()
        if fails:
            raise GSplatLocError("not enough photos")
        target.mkdir(parents=True)

    monkeypatch.setattr(command, "pose_images", pose)
    arguments = command.MapArguments(source, output, posing=PosingOptions(camera_model=model, quiet=True))
    with suppress_error(fails):
        command.pose_photos(arguments, source, output)
    return len(list((output / "scene" / "images").iterdir()))


def suppress_error(fails: bool) -> AbstractContextManager[object]:
    return pytest.raises(GSplatLocError, match="not enough") if fails else nullcontext()


def test_photos_that_were_added_are_used_or_refused(photos: Path, tmp_path: Path, monkeypatch) -> None:  # noqa: ANN001
    """Used where the run before could not pose them, without its matches; refused where it did."""
    own = tmp_path / "own"
    output = own / "map"  # within the photos
    own.mkdir()
    names = sorted(path.name for path in photos.iterdir())
    for count, fails, model in ((3, True, "SIMPLE_RADIAL"), (5, True, "SIMPLE_RADIAL"), (5, False, "OPENCV")):
        for name in names[:count]:
            shutil.copy(photos / name, own / name)
        assert collected(own, output, monkeypatch, fails=fails, model=model) == count
    assert collected(own, output, monkeypatch, fails=False, model="OPENCV") == 5
    with pytest.raises(GSplatLocError, match="move it away"):
        collected(own, output, monkeypatch, fails=False, model="SIMPLE_RADIAL")
    shutil.copy(photos / names[5], own / names[5])
    with pytest.raises(GSplatLocError, match="move it away"):
        collected(own, output, monkeypatch, fails=False, model="OPENCV")


def test_a_posed_scene_is_mapped_with_its_poses(run, room_path: Path, tmp_path: Path, monkeypatch) -> None:  # noqa: ANN001
    monkeypatch.setattr(command, "pose_images", lambda *_: pytest.fail("posed images that have poses"))
    trained = {}

    def stopped(scene, output, options, config) -> TrainingReport:  # noqa: ANN001
        trained.update(views=len(scene.train), source=config.source_path, metric=config.metric)
        return TrainingReport(3, False, {}, 0, None, 0)

    monkeypatch.setattr(resumable, "train", stopped)
    printed = run(str(room_path), "-m", str(tmp_path / "m"), code=130)
    assert trained == {"views": 12, "source": str(room_path), "metric": True}
    assert "the same command goes on" in printed and "next" not in printed


def test_a_phones_recording_is_mapped_as_it_is(run, room_path: Path, tmp_path: Path, monkeypatch) -> None:  # noqa: ANN001
    """In an archive, as phones share it; at most `--frames` of its frames."""
    monkeypatch.setattr(command, "pose_images", lambda *_: pytest.fail("posed images that have poses"))
    recorded = recordings.polycam(tmp_path / "recorded", read_scene(room_path).train)
    archive = recordings.zipped(recorded, tmp_path / "my room.zip", top="2024")
    printed = run(str(archive), "-m", str(tmp_path / "m"), "--frames", "10")
    assert len(read_cameras(tmp_path / "m")) == 10
    assert "arbitrary" not in printed and "next " in printed
    config = read_config(tmp_path / "m")
    assert len(read_scene(config.source_path, config.scene).train) == 10


def tracked(view: View, index: int) -> View:
    """The view with a pose as of a phone's tracking: a drift of 1 cm and 0.5 degrees, and noise of half."""
    slow = torch.tensor([0.006, 0.004, 0.005, 0.005, 0.005, 0.003], dtype=torch.float64)
    phase = index / torch.tensor([9.0, 7.0, 11.0, 8.0, 10.0, 6.0], dtype=torch.float64)
    fast = 0.003 * torch.randn(6, generator=torch.Generator().manual_seed(index), dtype=torch.float64)
    return replace(view, cam_from_world=se3.se3_exp(slow * phase.sin() + fast) @ view.cam_from_world)


def test_the_second_walk_of_a_phone_is_localized_in_the_map_of_the_first(
    run,  # noqa: ANN001
    room_scene: Path,
    tmp_path: Path,
) -> None:
    """A Record3D clip of a phone held upright, whose tracking drifts: poses are in metres."""
    pytest.importorskip("lzfse")
    scene = read_scene(room_scene)
    walk = [tracked(recordings.portrait(view), index) for index, view in enumerate(scene.train)]
    clip = recordings.record3d(tmp_path / "first", walk)
    assert "after refinement, which moves cameras" in run(str(clip), "-m", str(tmp_path / "m"))
    localizer = Localizer.load(tmp_path / "m", LocalizerOptions(stages=()))
    errors = []
    for view in map(recordings.portrait, scene.test):
        found = localizer.localize(view.load_image(), view.camera).final
        assert found.cam_from_world is not None
        moved = se3.camera_center(found.cam_from_world) - se3.camera_center(view.cam_from_world)
        errors.append(float(moved.norm()))
    assert sorted(errors)[len(errors) // 2] < 0.02


def test_an_archive_of_photos_is_posed(photos: Path, tmp_path: Path, monkeypatch) -> None:  # noqa: ANN001
    archive, seen = recordings.zipped(photos, tmp_path / "photos.zip"), []

    def pose(arguments: command.MapArguments, source: Path, output: Path) -> None:
        seen.extend(path.name for path in source.glob("*.png"))
        raise GSplatLocError("stopped")

    monkeypatch.setattr(command, "pose_photos", pose)
    with pytest.raises(GSplatLocError, match="stopped"):
        command.map_source(command.MapArguments(archive, tmp_path / "m"), archive, tmp_path / "m")
    assert sorted(seen) == sorted(path.name for path in photos.iterdir())


def test_a_stopped_run_goes_on_from_its_latest_checkpoint(run, room_path, tmp_path, monkeypatch) -> None:  # noqa: ANN001
    starts = []

    def stopped(scene, output, options, config) -> TrainingReport:  # noqa: ANN001
        starts.append(options.output.start_checkpoint)
        for iteration in (2, 10):
            (output / f"checkpoint_{iteration}.safetensors").touch()
        return TrainingReport(3, False, {}, 0, None, 0)

    monkeypatch.setattr(resumable, "train", stopped)
    for extra in ([], ["--quiet"], ["--preset", "gpu"], ["--preset", "gpu"]):
        run(str(room_path), "-m", str(tmp_path / "m"), *extra, code=130)
    latest = str(tmp_path / "m" / "checkpoint_10.safetensors")
    assert starts == [None, latest, None, latest]  # those of a stopped run with other options are removed


def test_a_path_that_is_nothing_is_a_users_error(run, tmp_path: Path) -> None:  # noqa: ANN001
    with pytest.raises(GSplatLocError, match=r"photos or a video .*, found .*nowhere: check the path"):
        run(str(tmp_path / "nowhere"), "-m", str(tmp_path / "m"))
    assert not (tmp_path / "m" / "scene").exists()


def test_checkpoints_are_written_before_the_end(run) -> None:  # noqa: ANN001
    options = command.MapArguments(Path("a"), Path("b"), iterations=600).mapping()
    assert options.output.checkpoint_iterations == (100, 200, 300, 400, 500)
    assert saved_iterations(Path("b")) == []
