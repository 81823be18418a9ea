"""The covariance of a pose whose rendering looks like the photo, for alignments that did not measure it."""

import torch
from torch import Tensor

from gaussian_renderer import RenderOptions
from localization.refine import Query, rendering
from localization.refine.blocks import ContrastOptions, photometric_block
from localization.refine.levenberg import Anchor, Term, evaluate, measured
from localization.refine.residuals import POSE, Exposure
from localization.uncertainty import covariance_of
from scene.cameras import Camera
from scene.gaussians import Gaussians

_MIN_SAMPLES = 100  # fewer trusted pixels say nothing of the pose
_EFFECTIVE = 500.0  # independent observations that all pixels are worth, and
_LEAST_SIGMA = 0.05  # of contrast, the least noise: both as of `lm`
_MIN_ALPHA, _MAX_DEPTH_STEP = 0.9, 0.005  # of pixels whose depth is trusted, likewise


@torch.no_grad()
def photometric_covariance(
    query: Query, gaussians: Gaussians, pose: Tensor, camera: Camera, render_options: RenderOptions
) -> Tensor | None:
    """Covariance [6, 6] of `pose` [4, 4], from the Gauss-Newton equations of the local contrast there.

    `camera` is the query's at the size that is rendered. None where too little can be compared.
    """
    side = max(camera.width, camera.height)
    view = rendering.render_map(gaussians, query.camera, pose, render_options, side).to("cpu")
    photo = rendering.photo_grey(query.image, view.camera)
    trusted = rendering.solid(view, _MIN_ALPHA, _MAX_DEPTH_STEP)
    if int(trusted.sum()) < _MIN_SAMPLES:
        return None
    block = photometric_block(photo, view, trusted, 1.0, ContrastOptions())
    terms = [Term(block, _EFFECTIVE, _LEAST_SIGMA)]
    here = torch.eye(4, dtype=torch.float64)
    anchor = Anchor(here, torch.zeros(POSE, POSE, dtype=torch.float64))
    state = measured(terms, evaluate(terms, here, Exposure(), anchor, (1.0,)), anchor)
    return covariance_of(state.hessian)[:POSE, :POSE]
