"""From archives on a server to the page, in one command; killed at random it ends with the same table."""

import csv
import json
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from gsplatloc.localization.evaluation import accuracy, pose_error
from gsplatloc.localization.io.poses import read_poses
from gsplatloc.scene import read_scene
from tests.crash.support import MOMENTS, Ended, check_end, contents, interrupt
from tests.datasets.conftest import Mirror
from tests.reproduction.archives import TEST, TRAIN
from tests.reproduction.conftest import Command

PAPER = ["--scenes", "chess", "fire", "--method", "paper", "--iterations", "12"]


def lines(folder: Path) -> list[dict[str, str]]:
    with (folder / "out" / "figures.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def made(reproduce: Command, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """Two scenes by the paper's method, made without an interruption."""
    folder = tmp_path_factory.mktemp("reproduce") / "whole"
    ended = reproduce(folder, "gsplatloc-7scenes", *PAPER)
    assert ended.code == 0, ended.said
    return folder, ended


def test_the_table_has_every_scene_and_stage_beside_the_published_figures(made: tuple[Path, Ended]) -> None:
    found = {(line["scene"], line["method"]): line for line in lines(made[0])}
    stages = ("paper, coarse", "paper, base", "paper, fine")
    for scene in ("chess", "fire"):
        assert {found[scene, stage]["queries"] for stage in stages} == {str(TEST)}
    for stage in stages:
        mean = sum(float(found[scene, stage]["cm"]) for scene in ("chess", "fire")) / 2
        assert float(found["average", stage]["cm"]) == pytest.approx(mean)
    assert found["average", "GSplatLoc base"]["cm"] == "2.53"
    assert found["average", "GSplatLoc base"]["5cm_5deg"] == "0.78"


def test_figures_are_those_of_the_pose_file_against_the_data(made: tuple[Path, Ended]) -> None:
    folder = made[0] / "out" / "chess" / "paper" / "localization"
    poses = read_poses(folder / "poses.txt")
    views = read_scene(made[0] / "data" / "pgt_7scenes_chess").test
    expected = accuracy([pose_error(poses[view.name].cam_from_world, view.cam_from_world) for view in views])
    line = next(
        line for line in lines(made[0]) if (line["scene"], line["method"]) == ("chess", "paper, fine")
    )
    assert float(line["cm"]) == pytest.approx(100 * expected.median_translation_m, rel=1e-6)
    assert float(line["deg"]) == pytest.approx(expected.median_rotation_deg, rel=1e-4)


def test_the_page_states_what_part_of_the_data_it_is_of(made: tuple[Path, Ended]) -> None:
    page = (made[0] / "out" / "table.html").read_text()
    assert f"chess: {TEST} of 2,000 test images and {TRAIN} of 4,000 mapping images" in page
    assert "2 of the 7 scenes" in page and "ACE + GS-CPR" in page and "GFLOP/s" in page
    content = json.loads((made[0] / "out" / "table.json").read_text())
    assert all(cost["making_gb"] > 0.05 and cost["map_mb"] > 0 for cost in content["costs"])


def test_the_same_command_computes_nothing_again(made: tuple[Path, Ended], reproduce: Command) -> None:
    before = {path: path.stat().st_mtime_ns for path in made[0].glob("out/*/*/**/*") if path.is_file()}
    assert reproduce(made[0], "gsplatloc-7scenes", *PAPER).code == 0
    after = {path: path.stat().st_mtime_ns for path in made[0].glob("out/*/*/**/*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_ends_with_the_same_table(
    made: tuple[Path, Ended], reproduce: Command, tmp_path: Path, number: int
) -> None:
    folder = tmp_path / "killed"
    command = partial(reproduce, folder, "gsplatloc-7scenes", *PAPER)
    interrupt("reproduce", number, command, made[1], folder, moments=max(3, MOMENTS))
    patterns = ("data/**/*", "out/figures.csv", "out/*/*/map/*.safetensors", "out/*/*/map/point_cloud/*_12/*")
    expected = contents(made[0], *patterns)
    assert len(expected) > 20 and contents(folder, *patterns) == expected


def test_workers_make_the_same_table_also_after_a_stop(
    made: tuple[Path, Ended], reproduce: Command, tmp_path: Path
) -> None:
    folder, words = tmp_path / "two", [*PAPER, "--workers", "2"]
    ended = reproduce(folder, "gsplatloc-7scenes", *words, number=signal.SIGTERM, after_s=6.0)
    check_end(ended, signal.SIGTERM)
    ended = reproduce(folder, "gsplatloc-7scenes", *words)
    assert ended.code == 0, ended.said
    assert "workers    2" in ended.said and "[2/2]" in ended.said
    assert (folder / "out" / "figures.csv").read_bytes() == (made[0] / "out" / "figures.csv").read_bytes()


def test_a_cluster_of_ray_makes_the_same_table_though_a_machine_fails(
    made: tuple[Path, Ended], reproduce: Command, tmp_path: Path
) -> None:
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason='pip install "gsplatloc[ray]"')
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    folder = tmp_path / "ray"

    def fail() -> None:
        end = time.monotonic() + 90
        while not list(folder.glob("out/*/paper/map/map.json")) and time.monotonic() < end:
            time.sleep(0.1)
        cluster.remove_node(nodes[0], allow_graceful=False)

    failing = threading.Thread(target=fail)
    failing.start()
    try:
        ended = reproduce(folder, "gsplatloc-7scenes", *PAPER, "--ray", cluster.address)
    finally:
        failing.join()
        cluster.shutdown()
    assert ended.code == 0, ended.said
    assert (folder / "out" / "figures.csv").read_bytes() == (made[0] / "out" / "figures.csv").read_bytes()


def test_an_archive_that_a_person_downloaded_is_used(
    reproduce: Command, tmp_path: Path, upstream: Mirror
) -> None:
    (tmp_path / "run" / "data").mkdir(parents=True)
    archive = upstream.root / "7scenes" / "chess.zip"
    (tmp_path / "run" / "data" / "chess.zip").write_bytes(archive.read_bytes())
    upstream.requests.clear()
    words = ["--scenes", "chess", "--method", "paper", "--iterations", "2", "--every", "3"]
    ended = reproduce(tmp_path / "run", "gsplatloc-7scenes", *words)
    assert ended.code == 0, ended.said
    assert "/7scenes/chess.zip" not in [path for path, _ in upstream.requests]
    page = (tmp_path / "run" / "out" / "table.md").read_text()
    assert "chess: 2 of 2,000 test images" in page and "one in 3" in page
    # Another scene into the same folder: the page has both, and other settings would have neither.
    words[1] = "fire"
    assert reproduce(tmp_path / "run", "gsplatloc-7scenes", *words).code == 0
    assert {"chess", "fire"} <= {line["scene"] for line in lines(tmp_path / "run")}


def test_a_landmark_is_localized_by_our_method_beside_a_sparse_one(
    reproduce: Command, tmp_path: Path
) -> None:
    words = ["--scenes", "ShopFacade", "--iterations", "60", "--resolution", "4"]
    for method in ("ours", "sparse"):
        ended = reproduce(tmp_path / "run", "gsplatloc-cambridge", *words, "--method", method)
        assert ended.code == 0, ended.said
    found = {line["method"]: line for line in lines(tmp_path / "run") if line["scene"] == "ShopFacade"}
    for label in ("ours, initial", "sparse pipeline"):
        assert float(found[label]["cm"]) < 5 and found[label]["failed"] == "0"
    with (tmp_path / "run" / "out" / "costs.csv").open() as file:
        sizes = {line["method"]: float(line["map_mb"]) for line in csv.DictReader(file)}
    assert sizes["sparse"] < 0.5 * sizes["ours"]  # no splat


def test_a_scene_that_cannot_be_had_does_not_stop_the_others(reproduce: Command, tmp_path: Path) -> None:
    words = ["--scenes", "heads", "chess", "--method", "paper", "--iterations", "2", "--every", "6"]
    ended = reproduce(tmp_path / "run", "gsplatloc-7scenes", *words)
    errors = [line for line in ended.said.splitlines() if line.startswith("error: ")]
    assert ended.code == 1 and len(errors) == 1 and "heads" in errors[0] and "404" in errors[0]
    page = (tmp_path / "run" / "out" / "table.md").read_text()
    assert "1 of 2 scenes are complete" in page and "heads: failed" in page


def test_given_poses_are_refined(made: tuple[Path, Ended], reproduce: Command, tmp_path: Path) -> None:
    given = made[0] / "data" / ".downloads" / "pgt" / "7scenes_chess_test.txt"
    rows = [line.split() for line in given.read_text().splitlines()]
    moved = [[*row[:7], str(float(row[7]) + 0.1), "0.1", "0.2"] for row in rows]  # figures of errors follow
    poses = tmp_path / "poses" / "estimate_chess_hloc.txt"
    poses.parent.mkdir()
    poses.write_text("\n".join(" ".join(row) for row in moved) + "\n")
    words = ["--scenes", "chess", "--iterations", "200", "--poses", poses.parent]
    folder = tmp_path / "run"
    ended = reproduce(folder, "gs-cpr", *words)
    assert ended.code == 0, ended.said
    found = {line["method"]: float(line["cm"]) for line in lines(folder) if line["scene"] == "chess"}
    assert found["hloc, as given"] == pytest.approx(10.0, abs=0.01)
    assert found["hloc + ours"] < 8.0
