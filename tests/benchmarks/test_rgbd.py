"""The RGB-D benchmark's own figures and its peers."""

from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from benchmarks.rgbd import PUBLISHED, RgbdArguments, Row, kept_rows, parts, surface_mm, table, tables
from benchmarks.rgbd_peers import PEERS, CloudAligner, package
from benchmarks.rgbd_seams import TRUTH, agreements, draw_agreements, errors_of_pieces, seam_rows
from gsplatloc.scene.cameras import View
from gsplatloc.scene.trajectory import Trajectory
from gsplatloc.tracking.discontinuities import discontinuities as seams
from gsplatloc.tracking.evaluation import trajectory_error
from gsplatloc.tracking.frames import prepare
from gsplatloc.tracking.sequence import RgbdSequence
from gsplatloc.tracking.surface import SurfaceMap
from gsplatloc.tracking.tracker import Tracker
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import write_json
from tests.tracking.conftest import CAMERA, FRAMES, Clip, look, make_clip


def test_depth_agrees_between_frames_at_true_poses_only() -> None:
    clip = make_clip()
    wrong = clip.truth.cam_from_world.clone()
    wrong[1::2, 2, 3] += 0.01  # every other camera a centimetre further back
    at_truth = surface_mm(clip.frames, clip.truth)
    assert at_truth < 0.3
    assert surface_mm(clip.frames, Trajectory(clip.truth.timestamps, wrong)) > 3 * max(at_truth, 1)


def test_stretches_of_one_data_set_are_averaged() -> None:
    rows = [Row(f"kitchen {i}", "lm", float(i), 1.0, 1.0, 1.0, 1.0, 10.0) for i in (1, 3)]
    assert table(rows).splitlines()[2:] == [
        "| kitchen | lm | 2.00 | 1.00 |  |  | 1.00 | 1.00 | 1.00 | 10.0 |"
    ]


def test_a_method_that_saw_less_says_so() -> None:
    rows = [Row(f"kitchen {i}", "lm", 1, 1, 1, 1, 1, None) for i in (1, 2)] + [
        Row("kitchen 1", PUBLISHED, 1, 1, 1, 1, 1, None)
    ]
    assert table(rows).splitlines()[3].startswith(f"| kitchen | {PUBLISHED}, 1 of 2 stretches |")


def test_errors_of_pieces_stand_side_by_side() -> None:
    row = Row("clip", "lm", 2.0, 1.0, 1.0, 1.0, 1.0, None, 0, [[0.3, 0.1], [0.4, 0.2]])
    line = "| clip | lm | 2.00 | 1.00 | 0.30 / 0.40 | 0.10 / 0.20 | 1.00 | 1.00 | 1.00 |  |"
    assert table([row]).splitlines()[2:] == [line]


@pytest.fixture(scope="module")
def broken() -> tuple[Clip, Trajectory]:
    """A clip along a smooth path, and a truth of it that jumps by 3 cm before frame 6."""
    time = torch.arange(12, dtype=torch.float64)[:, None]
    poses = se3.se3_exp(time * torch.tensor([[0.018, -0.006, 0.008, 0.004, 0.016, -0.003]]).double())
    frames = [prepare(str(i), *look(pose), CAMERA, FRAMES) for i, pose in enumerate(poses)]
    clip = Clip(frames, Trajectory(np.arange(12) / 30, poses))
    jump = se3.se3_exp(torch.tensor([0.03, 0, 0, 0, 0.01, 0], dtype=torch.float64))
    return clip, Trajectory(clip.truth.timestamps, torch.cat([poses[:6], poses[6:] @ jump]))


def test_images_tell_on_which_side_a_seam_is(broken: tuple[Clip, Trajectory]) -> None:
    clip, truth = broken
    apart = agreements(clip.frames, {TRUTH: truth, "us": clip.truth})
    found = {(row.along, row.frame): row for row in seam_rows("clip", seams(truth), apart)}
    assert set(found) == {(along, frame) for along in (TRUTH, "us") for frame in (6, None)}
    assert found[TRUTH, 6].contrast > 3 * found["us", 6].contrast
    assert found[TRUTH, 6].depth_mm > 3 * found["us", 6].depth_mm
    assert found[TRUTH, None].depth_mm == pytest.approx(found["us", None].depth_mm, rel=0.01)
    assert "5 to 6" in tables({"rows": [], "seams": [vars(row) for row in found.values()]})


def test_agreement_is_drawn_frame_by_frame(broken: tuple[Clip, Trajectory], tmp_path: Path) -> None:
    clip, truth = broken
    draw_agreements(tmp_path / "new" / "plot.png", "clip", agreements(clip.frames[:3], {TRUTH: truth}))
    assert cv2.imread(str(tmp_path / "new" / "plot.png")) is not None


def test_a_seam_is_no_error_of_the_pieces_beside_it(broken: tuple[Clip, Trajectory]) -> None:
    clip, truth = broken
    assert trajectory_error(clip.truth, truth).ate_rmse_m > 0.002
    pieces = errors_of_pieces(clip.truth, truth)
    assert len(pieces) == 2 and all(ate < 1e-6 and aae < 1e-6 for ate, aae in pieces)
    assert errors_of_pieces(clip.truth, clip.truth) == []


def test_a_long_sequence_is_begun_only_by_the_published_method() -> None:
    clip = make_clip(12)
    views = [
        View(str(i), CAMERA, pose, Path(), lambda: np.zeros(0))
        for i, pose in enumerate(clip.truth.cam_from_world)
    ]
    sequence = RgbdSequence("clip", views, clip.truth.timestamps, clip.truth)
    (whole, no), (beginning, yes) = parts(sequence, RgbdArguments(published=True, published_frames=5))
    assert whole is sequence and not no
    assert yes and beginning.name == "clip[:5]" and len(beginning.views) == len(beginning.timestamps) == 5
    assert [found for _, found in parts(sequence, RgbdArguments(published=True))] == [True]


def test_only_the_published_rows_of_an_earlier_run_are_kept(tmp_path: Path) -> None:
    rows = [Row("clip", name, 1, 1, 1, 1, 1, None) for name in ("lm (ours)", PUBLISHED)]
    write_json(tmp_path / "rgbd.json", {"rows": [asdict(row) for row in rows]})
    assert list(kept_rows(tmp_path / "rgbd.json")) == [("clip", PUBLISHED)]
    assert kept_rows(tmp_path / "none.json") == kept_rows(None) == {}


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
