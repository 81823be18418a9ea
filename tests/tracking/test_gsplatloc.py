"""The published alignment: rendered depth against measured depth, down the gradient."""

from dataclasses import replace

import pytest
import torch

from gsplatloc.gaussian_renderer import render
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.tracking.frames import RgbdFrame
from gsplatloc.tracking.gsplatloc import GsplatLocAligner, depth_descent, depth_loss
from gsplatloc.tracking.options import GsplatLocOptions, SurfaceOptions
from gsplatloc.tracking.surface import SurfaceMap
from gsplatloc.utils import se3
from tests.tracking.conftest import CAMERA, Clip

pytest.importorskip("gsplatloc_kernels")
OFF = torch.tensor([0.02, -0.01, 0.02, 0.01, -0.01, 0.005], dtype=torch.float64)


@pytest.fixture(scope="module")
def surface(clip: Clip) -> SurfaceMap:
    surface = SurfaceMap()
    surface.add(clip.frames[0], clip.truth.cam_from_world[0])
    return surface


@pytest.fixture(scope="module")
def gaussians(surface: SurfaceMap) -> Gaussians:
    return surface.gaussians()


@pytest.fixture(scope="module")
def frame(clip: Clip, gaussians: Gaussians) -> RgbdFrame:
    """What a sensor would see of the map itself: the only depth that has no bias against its rendering."""
    shown = render(gaussians, CAMERA, clip.truth.cam_from_world[1])
    inverse = torch.where(shown.alpha > 0.95, 1 / shown.depth.clamp(min=0.1), 0.0)
    first = clip.frames[1]
    return replace(first, levels=(replace(first.levels[0], inverse_depth=inverse), *first.levels[1:]))


def test_descent_finds_the_pose_of_a_rendering(clip: Clip, gaussians: Gaussians, frame: RgbdFrame) -> None:
    truth = clip.truth.cam_from_world[1]
    start = se3.se3_exp(OFF) @ truth
    found, ok = depth_descent(gaussians, frame, start, GsplatLocOptions(iterations=80))
    assert ok
    before, after = ((se3.camera_center(p) - se3.camera_center(truth)).norm() for p in (start, found))
    assert after < 0.25 * before


def test_loss_is_least_at_the_truth(clip: Clip, gaussians: Gaussians, frame: RgbdFrame) -> None:
    truth = clip.truth.cam_from_world[1]
    at_truth = depth_loss(gaussians, CAMERA, frame.depth, truth)
    beside = depth_loss(gaussians, CAMERA, frame.depth, se3.se3_exp(0.2 * OFF) @ truth)
    assert at_truth is not None and beside is not None and at_truth < beside


def test_nothing_in_common_leaves_the_prediction(gaussians: Gaussians, frame: RgbdFrame) -> None:
    away = se3.se3_exp(torch.tensor([0, 0, 0, 0, 3.1, 0], dtype=torch.float64))
    found, ok = depth_descent(gaussians, frame, away, GsplatLocOptions(iterations=3))
    assert not ok and torch.equal(found, away)


def test_best_iterate_is_kept_and_patience_ends_the_search(
    clip: Clip, gaussians: Gaussians, frame: RgbdFrame
) -> None:
    truth = clip.truth.cam_from_world[1]
    jumpy = GsplatLocOptions(iterations=20, patience=2, lr=1.0)
    found, _ = depth_descent(gaussians, frame, truth, jumpy)
    torch.testing.assert_close(found, truth, atol=1e-6, rtol=0)


def test_points_that_moved_are_seen_where_they_are(clip: Clip, frame: RgbdFrame) -> None:
    """A keyframe that shows nothing new moves points, as every one does in a map that is full."""
    surface = SurfaceMap(SurfaceOptions(max_points=1))
    surface.add(clip.frames[0], clip.truth.cam_from_world[0])
    aligner = GsplatLocAligner(surface, GsplatLocOptions(iterations=1))
    aligner.start(clip.frames[0], clip.truth.cam_from_world[0])
    aligner.track(frame, clip.truth.cam_from_world[1])
    surface.add(clip.frames[1], clip.truth.cam_from_world[1])
    aligner.track(frame, clip.truth.cam_from_world[1])
    assert aligner._gaussians is not None
    assert torch.equal(aligner._gaussians.means, surface.means)


def test_a_frame_far_from_the_last_enters_the_map(clip: Clip, surface: SurfaceMap, frame: RgbdFrame) -> None:
    options = GsplatLocOptions(iterations=1, keyframe_shift=0.01)
    aligner = GsplatLocAligner(surface, options)
    aligner.start(clip.frames[0], clip.truth.cam_from_world[0])
    assert aligner.track(frame, clip.truth.cam_from_world[1]).keyframe
    assert not aligner.track(frame, clip.truth.cam_from_world[1]).keyframe
