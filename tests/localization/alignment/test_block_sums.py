"""What an alignment says, part by part, is what it says in all."""

from typing import Any

import torch

from gsplatloc.gaussian_renderer import RenderOptions
from gsplatloc.localization.alignment import rendered_view as rendering
from gsplatloc.localization.alignment.block_sums import alignment_sums
from gsplatloc.localization.alignment.blocks import ContrastOptions, photometric_block
from gsplatloc.localization.alignment.levenberg_marquardt import Anchor, State, Term, minimise
from gsplatloc.localization.alignment.patches import PatchOptions, sharpened
from gsplatloc.localization.pose.covariance import GridSums
from gsplatloc.utils import robust

START = [0.01, -0.005, 0.01, 0.004, -0.004, 0.006]
NOTHING = torch.zeros(6, 6, dtype=torch.float64)


def _aligned(room: Any) -> tuple[GridSums, State, rendering.Rendering, Term]:
    initial = room.initial(START)
    view = rendering.render_map(room.gaussians, initial.camera, initial.pose(), RenderOptions(), 320)
    photo = rendering.photo_grey(room.query.image, view.camera)
    block = photometric_block(photo, view, rendering.solid(view, 0.9, 0.005), 1.0, ContrastOptions())
    term = Term(block, 500.0, 0.05)
    state = minimise([term], torch.eye(4, dtype=torch.float64), Anchor(room.truth, NOTHING))
    return alignment_sums([term], state, None, view), state, view, term


def test_parts_sum_to_the_whole(room: Any) -> None:
    sums, state, _, _ = _aligned(room)
    exposure = state.hessian[6:, 6:]
    pose_only = state.hessian[:6, :6] - state.hessian[:6, 6:] @ torch.linalg.solve(
        exposure, state.hessian[6:, :6]
    )
    share = robust.curvature((state.equations[0].residuals / (2 * state.sigmas[0])) ** 2, 1)
    torch.testing.assert_close(sums.curvature.sum(0), share * pose_only, rtol=1e-3, atol=1e-2)


def test_patches_count_as_well(room: Any) -> None:
    sums, state, view, term = _aligned(room)
    trusted = rendering.solid(view, 0.9, 0.005)
    sharper, patches = sharpened(state, room.query, view, trusted, PatchOptions())
    assert patches is not None
    more = alignment_sums([term], sharper, patches, view)
    assert bool((more.curvature.sum(0).diagonal() > sums.curvature.sum(0).diagonal()).all())
