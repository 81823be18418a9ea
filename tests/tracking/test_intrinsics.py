"""Wrong intrinsics of a sequence show in distances between points, which are the same in every frame."""

from dataclasses import replace

import pytest

from gsplatloc.scene.cameras import View
from gsplatloc.tracking.intrinsics import focal_factor, warn_of_focal_length
from tests.tracking.conftest import clip_views, make_clip


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


def test_frames_of_one_place_show_nothing() -> None:
    assert focal_factor(views(0.5)[:1] * 12) is None and focal_factor(views(0.5)[:2]) is None
