"""`warp` recovers a known pose by colour alone, and rejects what the matches of the prior contradict."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gsplatloc.localization.refine.members import WarpOptions
from gsplatloc.localization.refine.warp import WarpRefiner
from gsplatloc.localization.result import Matches
from gsplatloc.utils.errors import GSplatLocError
from tests.localization.refine.test_direct_alignment import PERTURBATIONS
from tests.localization.world import pose_errors

FULL = WarpOptions(scale=1.0)  # the room's photos are small already


def test_colour_alone_recovers_a_known_pose(room: Any) -> None:
    options = replace(FULL, feature_weight=0.0)
    estimate = WarpRefiner(options).refine(room.query, room.splat_map, room.initial(PERTURBATIONS[0]))
    assert pose_errors(estimate.cam_from_world, room.truth)[0] < 0.002


def test_a_pose_that_the_matches_of_the_prior_deny_is_rejected(room: Any) -> None:
    """The matches say that the prior is exact; the photo, taken elsewhere, says that it is not."""
    initial = room.initial([0.03, 0, 0, 0, 0, 0])
    pixels = torch.rand(100, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 200
    local = initial.camera.unproject(pixels, torch.full((100,), 2.5, dtype=torch.float64))
    points = (local - initial.pose()[:3, 3]) @ initial.pose()[:3, :3]
    initial = replace(initial, matches=Matches(pixels.numpy(), points.numpy(), np.ones(100, bool)))
    estimate = WarpRefiner(FULL).refine(room.query, room.splat_map, initial)
    assert not estimate.accepted
    assert torch.equal(estimate.pose(), initial.pose())


def test_no_steps_are_no_improvement(room: Any) -> None:
    options = replace(FULL, iterations=0)
    estimate = WarpRefiner(options).refine(room.query, room.splat_map, room.initial(PERTURBATIONS[0]))
    assert not estimate.accepted


@pytest.mark.parametrize("change", [{"lr": 0.0}, {"lr": float("nan")}, {"iterations": -1}])
def test_impossible_steps_are_a_user_error(change: dict[str, Any]) -> None:
    with pytest.raises(GSplatLocError, match="--warp_lr"):
        WarpOptions(**change)
