"""KLT patches correct an aligned pose by less than a pixel, and change nothing if too few are found."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gsplatloc.localization.alignment import correspondences as correspondence
from gsplatloc.localization.alignment import rendered_view as rendering
from gsplatloc.localization.alignment.patches import with_patches
from gsplatloc.localization.alignment.rendered_view import ValidDepth
from gsplatloc.localization.alignment.residuals import GainBias, Objective, State
from gsplatloc.utils import se3
from tests.localization.world import pose_errors

NEAR = [0.01, -0.005, 0.01, 0.004, -0.004, 0.006]  # a pixel or two of the room's photos


def _view(room: Any, xi: list[float]) -> tuple[rendering.Rendering, Tensor]:
    """The room rendered near the photo, and which pixels show it."""
    view = rendering.render_map(room.gaussians, room.query.camera, room.initial(xi).pose(), 320)
    return view, rendering.valid_depth_mask(view, ValidDepth(0.9, 0.005))


NO_TERMS = Objective(())


def _state(view: rendering.Rendering, pose: Tensor, certain: float = 1.0) -> State:
    """An alignment that ended at `pose` [4, 4], and how much it insists."""
    hessian = certain * torch.eye(8, dtype=torch.float64)
    motion = pose @ se3.inverse(view.cam_from_world)
    return State(motion, GainBias(), (), 0.0, hessian, torch.zeros(8, dtype=torch.float64), ())


def test_patches_correct_an_alignment_that_ended_beside_the_pose(room: Any) -> None:
    view, valid = _view(room, NEAR)
    beside = se3.se3_exp(torch.tensor([0.008, 0, 0, 0, 0.001, 0], dtype=torch.float64)) @ room.truth
    state, _ = with_patches(NO_TERMS, _state(view, beside), room.query.image, view, valid)
    before, after = (pose_errors(pose, room.truth)[0] for pose in (beside, state.pose @ view.cam_from_world))
    assert after < 0.5 * before


def test_a_certain_alignment_is_hardly_moved(room: Any) -> None:
    view, valid = _view(room, NEAR)
    state = _state(view, room.truth, certain=1e12)
    moved, _ = with_patches(NO_TERMS, state, room.query.image, view, valid)
    torch.testing.assert_close(moved.pose, state.pose, rtol=0, atol=1e-6)


def test_patches_add_information(room: Any) -> None:
    view, valid = _view(room, NEAR)
    state = _state(view, room.truth)
    sharper, patches = with_patches(NO_TERMS, state, room.query.image, view, valid)
    added = sharper.hessian - state.hessian
    assert patches is not None and len(patches.pixels) == len(patches.observed)
    assert bool((added[:6, :6].diagonal() > 0).all())
    assert not added[6:].any()


def test_without_patches_the_alignment_stays(room: Any) -> None:
    view, _ = _view(room, NEAR)
    state = _state(view, room.truth)
    nothing = torch.zeros_like(view.depth, dtype=torch.bool)
    assert with_patches(NO_TERMS, state, room.query.image, view, nothing) == (state, None)


def test_corners_are_followed_only_to_where_the_pose_puts_them(room: Any) -> None:
    view, valid = _view(room, NEAR)
    right = room.truth @ se3.inverse(view.cam_from_world)
    wrong = se3.se3_exp(torch.tensor([0.1, 0, 0, 0, 0, 0], dtype=torch.float64)) @ right
    near, far = (
        correspondence.follow(room.query.image, view, valid, pose, 1.0, 1000) for pose in (right, wrong)
    )
    assert len(near.query) > 100
    assert len(far.query) < 0.2 * len(near.query)


def test_another_exposure_moves_no_patch(room: Any) -> None:
    view, valid = _view(room, NEAR)
    darker = replace(room.query, image=(room.query.image * 0.7).astype("uint8"))
    poses = [
        with_patches(NO_TERMS, _state(view, room.truth), query.image, view, valid)[0].pose
        for query in (room.query, darker)
    ]
    assert pose_errors(*poses)[0] < 0.001
