"""Wrong intrinsics of a sequence show in distances between points, which are the same in every frame."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gsplatloc.scene.cameras import View
from gsplatloc.scene.trajectory import read_tum_trajectory
from gsplatloc.tracking import run
from gsplatloc.tracking.intrinsics import focal_factor, warn_of_focal_length
from gsplatloc.tracking.options import TrackingOptions
from gsplatloc.tracking.run import track, write_result
from gsplatloc.tracking.sequence import RgbdSequence
from tests.tracking.conftest import CAMERA, FRAMES, clip_views, make_clip


def views(factor: float) -> list[View]:
    found = clip_views(make_clip(30).truth)
    camera = found[0].camera
    wrong = replace(camera, fx=factor * camera.fx, fy=factor * camera.fy)
    return [replace(view, camera=wrong) for view in found]


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.25, 1.5])
def test_a_wrong_focal_length_is_found(factor: float, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = views(factor)
    assert focal_factor(wrong) == pytest.approx(1 / factor, rel=0.03)
    warn_of_focal_length(wrong)
    assert "distances between points agree best with a focal length of" in capsys.readouterr().err


def test_a_right_focal_length_is_not_mentioned(capsys: pytest.CaptureFixture[str]) -> None:
    warn_of_focal_length(views(1.0))
    assert not capsys.readouterr().err


def test_frames_without_known_depth_show_nothing() -> None:
    """As of a sensor that was covered for a while: none of the keypoints is on known depth."""
    found = views(0.5)
    blind = [replace(view, load_depth=lambda: np.zeros((CAMERA.height, CAMERA.width))) for view in found]
    assert focal_factor([*found[:20], *blind[20:]]) == pytest.approx(2, rel=0.03)
    assert focal_factor(blind) is None


def test_the_trajectory_is_written_before_the_focal_length_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = make_clip(4).truth
    sequence = RgbdSequence("clip", clip_views(truth), truth.timestamps, truth)
    options = replace(TrackingOptions(), frames=FRAMES)
    result = track(sequence, options)
    monkeypatch.setattr(run, "warn_of_focal_length", lambda views: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_result(tmp_path, sequence, options, result)
    assert len(read_tum_trajectory(tmp_path / "trajectory.txt")) == 4


def test_frames_of_one_place_show_nothing() -> None:
    assert focal_factor(views(0.5)[:1] * 12) is None and focal_factor(views(0.5)[:2]) is None
