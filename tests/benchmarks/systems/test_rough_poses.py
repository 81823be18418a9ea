"""Maps of rough poses beside a map of true ones: what is mapped, and the figures."""

import math
from pathlib import Path

import pytest
import torch

from benchmarks.harness import measuring
from benchmarks.harness.measuring import Cost
from benchmarks.harness.results import read_rows
from benchmarks.systems import rough_poses
from gsplatloc.localization.io.poses import PoseRecord, write_poses
from gsplatloc.scene import read_scene
from gsplatloc.scene.map_config import MapConfig, write_cameras, write_config
from gsplatloc.utils import se3

# The whole map is a centimetre beside the scene: what alignment removes.
BESIDE = se3.se3_exp(torch.tensor([0.01, 0, 0, 0, 0, 0], dtype=torch.float64))


def test_poses_are_moved_and_turned_as_stated(room_scene: Path) -> None:
    truth = torch.stack([view.cam_from_world for view in read_scene(room_scene).train])
    metres, degrees = rough_poses.medians(rough_poses.disturbed(truth), truth)
    assert metres == pytest.approx(0.02, rel=1e-3) and degrees == pytest.approx(1.0, rel=1e-6)


def test_three_maps_are_compared(
    room_scene: Path, tmp_path: Path, pages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With maps that keep the poses which they are given, and queries that are found where their truth is."""
    started: list[list[str]] = []

    def run_gsplatloc(words: list[object], log: Path) -> Cost:
        started.append([str(word) for word in words])
        output = words[words.index("-m") + 1]
        assert isinstance(output, Path)
        scene = read_scene(output.parent / "scene")
        if words[0] == "train":
            moved = [view.with_pose(view.cam_from_world @ BESIDE) for view in scene.train]
            write_cameras(output, moved)
            write_config(output, MapConfig(str(scene.root)))
        else:
            found = [PoseRecord(view.name, view.cam_from_world @ BESIDE) for view in scene.test]
            write_poses(output / "localization" / "poses.txt", found[1:])
        return Cost(60.0, 0)

    monkeypatch.setattr(measuring, "run_gsplatloc", run_gsplatloc)
    monkeypatch.setattr(rough_poses, "run_gsplatloc", run_gsplatloc)
    monkeypatch.setattr(rough_poses, "every_7th_left_out", lambda views: (views[::2], views[1::2]))
    monkeypatch.setattr(
        rough_poses, "read_scene", lambda path: read_scene(room_scene if path.name != "scene" else path)
    )
    results = tmp_path / "results.json"
    words = f"--output {tmp_path / 'work'} --results {results} --no-publish --iterations 5"
    monkeypatch.setattr("sys.argv", ["rough_poses", *words.split()])
    rough_poses.main()
    rows = read_rows(results)
    assert [row["kind"] for row in rows] == list(rough_poses.KINDS)
    assert [words[words.index("--refine_poses") + 1] for words in started[::2]] == ["False", "False", "True"]
    true, rough = rows[0], rows[1]
    assert true["mapping_m"] == pytest.approx(0.01, rel=1e-3) and true["aligned_mapping_m"] < 1e-6
    assert true["queries_m"] == pytest.approx(0.01, rel=1e-3) and true["aligned_queries_m"] < 1e-6
    assert true["failed"] == 1 and rough["mapping_deg"] == pytest.approx(1.0, abs=1e-3)
    assert 0.005 < rough["aligned_mapping_m"] < 0.025
    rough_poses.publish_rough_poses(rows, pages)
    text = (pages / "docs" / "page.md").read_text()
    assert "| true poses | 1.00 cm / 0.000° | 0.00 cm / 0.000° | 1.00 cm / 0.000° |" in text


def test_a_pose_that_was_not_found_is_infinitely_wrong() -> None:
    none = torch.full((3, 4, 4), math.nan, dtype=torch.float64)
    truth = torch.eye(4, dtype=torch.float64).expand(3, 4, 4)
    assert rough_poses.medians(none, truth) == (math.inf, math.inf)
