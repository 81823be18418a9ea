"""What is asked for: tables, scenes, pose files; what is found; and what it will take."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from gsplatloc.arguments.reproduce import ReproduceArguments
from gsplatloc.datasets.options import RoomOptions
from gsplatloc.datasets.room import make_room
from gsplatloc.reproduction import plan
from gsplatloc.reproduction.plan import duration, plan_lines, plan_scene
from gsplatloc.reproduction.pose_files import find_pose_files
from gsplatloc.reproduction.run import dry_run, reproduce
from gsplatloc.reproduction.scene_run import identity
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import write_json
from tests.datasets.conftest import Mirror


def request(folder: Path, table: str = "gsplatloc-7scenes", **options: object):  # type: ignore[no-untyped-def]  # noqa: ANN201
    options = {"data": folder / "data", "output": folder / "out", "yes": True} | options
    return ReproduceArguments(table, **options).request()  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose data/ holds a scene as the set-up command makes it."""
    folder = tmp_path_factory.mktemp("laid_out")
    make_room(folder / "data" / "pgt_7scenes_fire", RoomOptions(64, 64, 3, 2, supersampling=1))
    return folder


def test_an_unknown_table_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match=r"gsplatloc-7scenes, .*gs-cpr.*found 'table4'"):
        request(tmp_path, "table4")


def test_an_unknown_scene_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match=r"chess, fire.*found 'kitchen'"):
        reproduce(request(tmp_path, scenes=("kitchen",)))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("numbers", [{"every": 0}, {"iterations": 0}, {"every": -2}])
def test_impossible_numbers_are_refused(tmp_path: Path, numbers: dict[str, int]) -> None:
    with pytest.raises(GSplatLocError, match="--every and --iterations"):
        request(tmp_path, **numbers)


def test_a_sparse_pipeline_has_no_splat_and_stands_in_tables_of_images_without_poses(tmp_path: Path) -> None:
    asked = request(tmp_path, method="all", iterations=50)
    assert asked.methods == ("ours", "paper", "sparse")
    assert [asked.mapping(name).schedule.iterations for name in asked.methods] == [50, 50, 0]
    assert request(tmp_path, "rgbd-tum", method="all").methods == ("ours", "paper")
    with pytest.raises(GSplatLocError, match="expected --method ours or paper for gs-cpr, found sparse"):
        request(tmp_path, "gs-cpr", method="sparse")


def test_a_scene_made_with_other_poses_is_not_taken_for_this_one(laid_out: Path, tmp_path: Path) -> None:
    scene = tmp_path / "data" / "pgt_7scenes_fire"
    make_room(scene, RoomOptions(64, 64, 3, 2, supersampling=1))
    write_json(scene / "setup.json", {"poses": "original", "depth": "none"})
    with pytest.raises(GSplatLocError, match="'poses': 'pgt'.*move it away"):
        reproduce(request(tmp_path, scenes=("fire",)))
    write_json(scene / "setup.json", {"poses": "pgt", "depth": "calibrated"})  # other settings do no harm
    asked = request(tmp_path)
    assert asked.table.data.find(tmp_path / "data", "fire") == scene


def test_the_plan_counts_what_is_there_and_asks_for_what_is_not(
    laid_out: Path, upstream: Mirror, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(laid_out.rglob("*"))
    dry_run(request(laid_out, scenes=("chess", "fire"), mirror=upstream.address, method="both"))
    said = capsys.readouterr().out.splitlines()
    chess, fire = (next(line.split() for line in said if line.startswith(name)) for name in ("chess", "fire"))
    size = len((upstream.root / "7scenes" / "chess.zip").read_bytes())
    assert chess[1:5] == ["4000", "2000", f"{size / 1e6:.0f}", "MB"]
    assert fire[1:5] == ["3", "2", "0", "MB"]
    assert any("found at" in line for line in said) and any("GFLOP/s" in line for line in said)
    assert sorted(laid_out.rglob("*")) == before


def test_more_work_takes_longer(laid_out: Path) -> None:
    asked = request(laid_out, method="both")
    fire, chess = plan_scene(asked, "fire"), plan_scene(asked, "chess")
    assert chess.seconds["ours"] > fire.seconds["ours"] and chess.memory > fire.memory
    assert fire.seconds["paper"] > fire.seconds["ours"]
    fewer = plan_scene(request(laid_out, method="both", iterations=10, every=100), "chess")
    assert fewer.seconds["paper"] < chess.seconds["paper"]


def test_a_plan_without_a_server_says_that_sizes_are_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dry_run(request(tmp_path, scenes=("chess",), mirror="http://127.0.0.1:9"))
    assert "unknown" in capsys.readouterr().out


@pytest.mark.parametrize("free, said", [(10**6, True), (10**15, False)])
def test_a_plan_says_that_the_disk_is_too_small(
    laid_out: Path, monkeypatch: pytest.MonkeyPatch, free: int, said: bool
) -> None:
    asked = request(laid_out, scenes=("fire",))
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert ("which is not enough" in plan_lines(asked, [plan_scene(asked, "fire")])[-1]) is said


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations_are_rough(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_results_of_other_options_are_not_taken_for_these(laid_out: Path) -> None:
    source = laid_out / "data" / "pgt_7scenes_fire"
    asked = request(laid_out)
    same = identity(request(laid_out, quiet=True), "ours", "fire", source)
    assert identity(asked, "ours", "fire", source) == same
    others = [request(laid_out, every=2), request(laid_out, iterations=7), request(laid_out, resolution=2)]
    assert same not in [identity(other, "ours", "fire", source) for other in others]
    assert identity(asked, "paper", "fire", source) != same


def test_pose_files_are_found_by_their_published_names(tmp_path: Path) -> None:
    names = {
        "estimate_chess_hloc.txt": "hloc",
        "estimate_chess_dsac_rgb.txt": "dsac_rgb",
        "poses_pgt_7scenes_chess_ace.txt": "ace",
        "DFNet/chess.txt": "DFNet",
        "estimate_fire_hloc.txt": None,
        "pgt_chess_test.txt": None,  # the ground truth
        "chess_train.txt": None,
    }
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    found = find_pose_files(tmp_path, "chess")
    assert {path.relative_to(tmp_path).as_posix(): name for name, path in found.items()} == {
        path: name for path, name in names.items() if name
    }
    with pytest.raises(GSplatLocError, match="pose file of stairs"):
        find_pose_files(tmp_path, "stairs")


def test_given_poses_need_a_folder(laid_out: Path) -> None:
    with pytest.raises(GSplatLocError, match="--poses"):
        reproduce(request(laid_out, "gs-cpr", scenes=("fire",)))


def test_sequences_of_rgbd_tables_are_whole(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="--every"):
        reproduce(request(tmp_path, "rgbd-replica", every=2))


def test_data_that_a_person_has_to_download_is_named(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match=r"room0 at .*Replica.zip"):
        reproduce(request(tmp_path, "rgbd-replica", scenes=("room0",)))
