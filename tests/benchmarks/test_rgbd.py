"""The RGB-D benchmark's own figures and its peers."""

import pytest
import torch

from benchmarks.rgbd import Row, surface_mm, table
from benchmarks.rgbd_peers import PEERS, CloudAligner, package
from scene.trajectory import Trajectory
from tests.tracking.conftest import make_clip
from tracking.evaluation import trajectory_error
from tracking.surface import SurfaceMap
from tracking.tracker import Tracker
from utils.errors import GSplatLocError


def test_depth_agrees_between_frames_at_true_poses_only() -> None:
    clip = make_clip()
    wrong = clip.truth.cam_from_world.clone()
    wrong[1::2, 2, 3] += 0.01  # every other camera a centimetre further back
    at_truth = surface_mm(clip.frames, clip.truth)
    assert at_truth < 0.3
    assert surface_mm(clip.frames, Trajectory(clip.truth.timestamps, wrong)) > 3 * max(at_truth, 1)


def test_stretches_of_one_data_set_are_averaged() -> None:
    rows = [Row(f"kitchen {i}", "lm", float(i), 1.0, 1.0, 1.0, 1.0, 10.0) for i in (1, 3)]
    assert table(rows).splitlines()[2:] == ["| kitchen | lm | 2.00 | 1.00 | 1.00 | 1.00 | 1.00 | 10.0 |"]


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
