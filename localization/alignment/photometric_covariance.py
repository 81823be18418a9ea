"""The covariance of a pose whose rendering looks like the photo, for alignments that did not measure it."""

import torch
from torch import Tensor

from gsplatloc.gaussian_renderer import RenderOptions
from gsplatloc.localization.alignment import rendered_view as rendering
from gsplatloc.localization.alignment.blocks import ContrastOptions, photometric_block
from gsplatloc.localization.alignment.levenberg_marquardt import Anchor, Term, evaluate, measured
from gsplatloc.localization.alignment.residuals import POSE, Exposure
from gsplatloc.localization.pose.covariance import assumed_covariance
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine.lm import LmOptions
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.gaussians import Gaussians

_MIN_SAMPLES = 100  # fewer trusted pixels say nothing of the pose
_LM = LmOptions()  # what pixels are worth and which are trusted is the same here


@torch.no_grad()
def photometric_covariance(
    query: Query, gaussians: Gaussians, pose: Tensor, camera: Camera, render_options: RenderOptions
) -> Tensor | None:
    """Covariance [6, 6] of `pose` [4, 4], from the Gauss-Newton equations of the local contrast there.

    `camera` is the query's at the size that is rendered, `render_options` are those for that size. None where
    too little can be compared.
    """
    side = max(camera.width, camera.height)
    view = rendering.render_map(gaussians, query.camera, pose, render_options, side).to("cpu")
    photo = rendering.photo_grey(query.image, view.camera)
    trusted = rendering.solid(view, _LM.min_alpha, _LM.max_depth_step)
    if int(trusted.sum()) < _MIN_SAMPLES:
        return None
    block = photometric_block(photo, view, trusted, 1.0, ContrastOptions())
    terms = [Term(block, _LM.effective, _LM.least_sigma)]
    here = torch.eye(4, dtype=torch.float64)
    anchor = Anchor(here, torch.zeros(POSE, POSE, dtype=torch.float64))
    state = measured(terms, evaluate(terms, here, Exposure(), anchor, (1.0,)), anchor)
    return assumed_covariance(state.hessian)[:POSE, :POSE]
