"""The RGB-D benchmark: agreement of frames, tables, the peers, and a small real run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.harness.results import Record, read_rows
from benchmarks.systems.cloud_registration import PEERS, CloudAligner, package
from benchmarks.systems.rgbd import (
    OURS,
    PUBLISHED,
    TRUTH,
    RgbdArguments,
    SequenceBench,
    of_neighbours,
    parts,
    publish_rgbd,
    rows_of,
    segment_errors,
    surface_mm,
    trajectory_table,
)
from gsplatloc.scene.cameras import View
from gsplatloc.scene.trajectory import Trajectory
from gsplatloc.tracking.discontinuities import discontinuities
from gsplatloc.tracking.evaluation import trajectory_error
from gsplatloc.tracking.frames import prepare
from gsplatloc.tracking.sequence import RgbdSequence
from gsplatloc.tracking.surface import SurfaceMap
from gsplatloc.tracking.tracker import Tracker
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from tests.tracking.conftest import CAMERA, FRAMES, Clip, look, make_clip


def test_depth_agrees_between_frames_at_true_poses_only() -> None:
    clip = make_clip()
    wrong = clip.truth.cam_from_world.clone()
    wrong[1::2, 2, 3] += 0.01  # every other camera a centimetre further back
    at_truth = surface_mm(clip.frames, clip.truth)
    assert at_truth < 0.3
    assert surface_mm(clip.frames, Trajectory(clip.truth.timestamps, wrong)) > 3 * max(at_truth, 1)


def row(sequence: str, method: str, error: float, **facts: Any) -> dict[str, Any]:
    keys = ("ate_rmse_cm", "aae_deg", "ate_rmse_unaligned_cm", "aae_unaligned_deg", "surface_mm")
    place = {
        "part": "trajectory",
        "sequence": sequence,
        "method": method,
        "commit": "0123456789",
        "machine": "CPU",
    }
    return {**dict.fromkeys(keys, error), **place, "frames_per_second": None, "segments": [], **facts}


def test_stretches_of_one_data_set_are_averaged() -> None:
    rows = [row(f"kitchen {i}", "lm", float(i), frames_per_second=10.0) for i in (1, 3)]
    line = "| kitchen | lm | 2.00 | 2.00 |  |  | 2.00 | 2.00 | 2.00 | 10.0 |"
    assert trajectory_table(rows).splitlines()[2:] == [line]


def test_a_method_that_ran_on_fewer_stretches_says_so() -> None:
    rows = [row("kitchen 1", "lm", 1.0), row("kitchen 2", "lm", 1.0), row("kitchen 1", PUBLISHED, 1.0)]
    assert trajectory_table(rows).splitlines()[3].startswith(f"| kitchen | {PUBLISHED}, 1 of 2 stretches |")


def test_errors_of_segments_stand_side_by_side() -> None:
    found = row("clip", "lm", 1.0, segments=[[0.3, 0.1], [0.4, 0.2]])
    assert "| 0.30 / 0.40 | 0.10 / 0.20 |" in trajectory_table([found])


@pytest.fixture(scope="module")
def broken() -> tuple[Clip, Trajectory]:
    """A clip along a smooth path, and a ground truth of it that jumps by 3 cm before frame 6."""
    time = torch.arange(12, dtype=torch.float64)[:, None]
    poses = se3.se3_exp(time * torch.tensor([[0.018, -0.006, 0.008, 0.004, 0.016, -0.003]]).double())
    frames = [prepare(str(i), *look(pose), CAMERA, FRAMES) for i, pose in enumerate(poses)]
    clip = Clip(frames, Trajectory(np.arange(12) / 30, poses))
    jump = se3.se3_exp(torch.tensor([0.03, 0, 0, 0, 0.01, 0], dtype=torch.float64))
    return clip, Trajectory(clip.truth.timestamps, torch.cat([poses[:6], poses[6:] @ jump]))


def test_images_show_on_which_side_a_discontinuity_is(broken: tuple[Clip, Trajectory]) -> None:
    clip, truth = broken
    found = {}
    for name, trajectory in ((TRUTH, truth), (OURS, clip.truth)):
        series = of_neighbours(clip.frames, trajectory)
        found |= {(name, found["frame"]): found for found in rows_of(discontinuities(truth), series)}
    assert set(found) == {(along, frame) for along in (TRUTH, OURS) for frame in (6, None)}
    for key in ("contrast", "depth_mm"):
        assert found[TRUTH, 6][key] > 3 * found[OURS, 6][key]
    assert found[TRUTH, None]["depth_mm"] == pytest.approx(found[OURS, None]["depth_mm"], rel=0.01)


def test_a_discontinuity_is_no_error_of_the_segments_beside_it(broken: tuple[Clip, Trajectory]) -> None:
    clip, truth = broken
    assert trajectory_error(clip.truth, truth).ate_rmse_m > 0.002
    found = segment_errors(clip.truth, truth)
    assert len(found) == 2 and all(ate < 1e-6 and aae < 1e-6 for ate, aae in found)
    assert segment_errors(clip.truth, clip.truth) == []


def sequence_of(poses: torch.Tensor, truth: Trajectory) -> RgbdSequence:
    """A sequence seen from `poses` [N, 4, 4], with a ground truth that may differ from them."""
    views = []
    for index, pose in enumerate(poses):
        image, depth = look(pose)
        load = {"load_image": lambda image=image: image, "load_depth": lambda depth=depth: depth}
        views.append(View(str(index), CAMERA, pose, Path(), **load))
    return RgbdSequence("clip", views, truth.timestamps, truth)


def test_a_long_sequence_is_tracked_from_its_beginning_only_by_the_published_method() -> None:
    clip = make_clip(12)
    sequence = sequence_of(clip.truth.cam_from_world, clip.truth)
    (whole, no), (beginning, yes) = parts(sequence, RgbdArguments(published_frames=5))
    assert whole is sequence and not no
    assert yes and beginning.name == "clip[:5]" and len(beginning.views) == len(beginning.timestamps) == 5
    assert [found for _, found in parts(sequence, RgbdArguments())] == [True]


def test_a_sequence_is_tracked_once_and_its_neighbours_are_compared(
    broken: tuple[Clip, Trajectory], tmp_path: Path, pages: Path
) -> None:
    clip, truth = broken
    sequence = sequence_of(clip.truth.cam_from_world, truth)
    arguments, results = RgbdArguments(peers=False, trajectories=tmp_path / "tum"), tmp_path / "results.json"
    SequenceBench(sequence, arguments, Record(results)).run(published=False, whole=True)
    rows = read_rows(results)
    tracked = {found["method"]: found for found in rows if found["part"] == "trajectory"}
    assert list(tracked) == [TRUTH, OURS] and len(tracked[OURS]["segments"]) == 2
    assert tracked[OURS]["segments"][0][0] < 0.1 < tracked[OURS]["ate_rmse_cm"]
    assert {found["part"] for found in rows} == {"trajectory", "discontinuity", "neighbours"}
    assert len(list((tmp_path / "tum").iterdir())) == 1
    publish_rgbd(rows, pages)
    assert "| along | clip: 5 to 6 | clip: all others |" in (pages / "docs" / "page.md").read_text()
    assert (pages / "docs" / "images" / "rgbd-seams.png").is_file()


@pytest.mark.parametrize("name", PEERS)
def test_peers_stay_where_the_camera_stands(name: str) -> None:
    pytest.importorskip("small_gicp")
    clip = make_clip(1)
    tracker = Tracker(CloudAligner(PEERS[name]), SurfaceMap(), clip.truth.cam_from_world[0])
    for _ in range(3):
        tracker.add(clip.frames[0])
    torch.testing.assert_close(tracker.poses[2], tracker.poses[0], atol=1e-4, rtol=0)


def test_point_to_plane_icp_follows_the_camera() -> None:
    pytest.importorskip("small_gicp")
    clip = make_clip(5)
    peer = CloudAligner(PEERS["point-to-plane ICP"])
    tracker = Tracker(peer, SurfaceMap(), clip.truth.cam_from_world[0])
    for frame in clip.frames:
        tracker.add(frame)
    found = Trajectory(clip.truth.timestamps, torch.stack(tracker.poses))
    assert trajectory_error(found, clip.truth).ate_rmse_unaligned_m < 0.03


def test_a_missing_peer_is_one_line_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "small_gicp", None)
    with pytest.raises(GSplatLocError, match="pip install small_gicp"):
        package()
