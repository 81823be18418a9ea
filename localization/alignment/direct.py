"""Direct alignment of a rendering with the query image: coarse to fine, with any minimiser.

The map is rendered once at the initial pose and aligned with the query image on levels of the image; coarse
levels are used only if the initial covariance allows image motion beyond the reach of the finer ones. The
map is rendered again if the pose moved far. The initial pose is a Gaussian prior of the cost. A pose is
accepted if query image and rendering correlate, if the cost is lower than at the initial pose, and if the
squared Mahalanobis distance from the initial pose is small.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gsplatloc.localization.alignment import rendered_view as rendering
from gsplatloc.localization.alignment.adam import image_motion
from gsplatloc.localization.alignment.blocks import feature_block, photometric_block
from gsplatloc.localization.alignment.options import DirectOptions
from gsplatloc.localization.alignment.patches import Patches, with_patches
from gsplatloc.localization.alignment.rendered_view import Rendering, ValidDepth
from gsplatloc.localization.alignment.residuals import (
    POSE,
    UNKNOWNS,
    GaussianPrior,
    Objective,
    State,
    Term,
    cell_equations,
    correlation,
)
from gsplatloc.localization.pose import reprojection
from gsplatloc.localization.pose.covariance import Grid, GridSums, Prior, jackknife, marginal_information
from gsplatloc.localization.pose.estimates import independent_information, moved
from gsplatloc.localization.queries import Query
from gsplatloc.localization.result import PoseEstimate
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils import robust, se3

Minimiser = Callable[[Objective, Tensor], State]  # from a start [4, 4], query from reference

_VALID_DEPTH = ValidDepth(min_alpha=0.9, max_depth_step=0.005)
_MIN_SAMPLES = 100  # with fewer pixels, artefacts of the map decide the pose
_SAMPLE_SIZE = 500.0  # effective, of all pixels: neighbours share errors
_MIN_SIGMA = 0.05  # of local contrast: two photos of a place agree no better
_MIN_DISTANCE = 0.1  # likewise between unit descriptors
_RENDERINGS = 2  # maximum number
_RERENDER = 0.02  # radians of view: after a larger motion the map is rendered again
_REACH_PX = 3.0  # image motion from which a level converges; if more is expected, a coarser level comes first
_COARSEST = 3  # maximum number of levels below the finest, each of half the size
_COARSEST_SIDE = 40  # pixels: a smaller image does not determine the pose
_MIN_CORRELATION = 0.5  # between query image and rendering: less is another place
_MAX_SQUARED_DISTANCE = 36.0  # squared Mahalanobis distance from the initial pose, 6 degrees of freedom
_MIN_SEEN = 0.5  # share of the samples that must be in view


def align_with_map(
    query: Query,
    gaussians: Gaussians,
    initial: PoseEstimate,
    minimise: Minimiser,
    options: DirectOptions,
) -> PoseEstimate | None:
    """The pose near `initial` at which a rendering agrees with the query image; None if none is accepted."""
    best, pose = None, initial.pose()
    for _ in range(_RENDERINGS):
        view = _render(query, gaussians, pose, options)
        found = align(query, view, initial, pose, minimise, options)
        if found is None:
            break
        best, pose = found, found.pose()
        if rendering.view_motion(view, pose) < _RERENDER:
            break
    return best


def _render(query: Query, gaussians: Gaussians, pose: Tensor, options: DirectOptions) -> Rendering:
    camera = query.camera
    whole = max(camera.width, camera.height)
    given = min(round(options.scale * max(whole, query.given_side or 0)), options.shrunk_side)
    side = min(whole, max(round(options.scale * whole), given, options.min_side))
    size = (query.dense.shape[1], query.dense.shape[2]) if options.feature_weight > 0 else None
    low_pass = rendering.shrunk_low_pass(camera, side)
    view = rendering.render_map(gaussians, camera, pose, side, size, low_pass)
    return view.to("cpu")  # many short sequential steps follow: slower on a GPU


def align(
    query: Query,
    view: Rendering,
    initial: PoseEstimate,
    start: Tensor,
    minimise: Minimiser,
    options: DirectOptions,
) -> PoseEstimate | None:
    """The pose near `start` at which `view` agrees with the query image; None if it is not accepted."""
    grey = rendering.photo_grey(query.image, view.camera)
    valid = rendering.valid_depth_mask(view, _VALID_DEPTH)
    view_from_world = se3.inverse(view.cam_from_world)
    information = options.prior_weight * independent_information(initial)
    prior = GaussianPrior(initial.pose() @ view_from_world, information)
    pose, state, objective, patches = start @ view_from_world, None, Objective((), prior), None
    for scale in level_scales(view, initial):
        terms = _terms(query, grey, view, valid, scale, options)
        if terms:
            objective = Objective(terms, prior)
            state = minimise(objective, pose)
            pose = state.pose
    if state is not None and options.patches:
        state, patches = with_patches(objective, state, query.image, view, valid)
    if state is None or not _accepted(objective, state, initial):
        return None
    stated = initial.covariance_of_known_camera
    known = None if stated is None else Prior(information, stated.double().cpu())
    covariance = jackknife(grid_sums(objective, state, view, patches), known)
    return moved(
        initial, state.pose @ view.cam_from_world, covariance, marginal_information(state.hessian, POSE)
    )


def _terms(
    query: Query, grey: np.ndarray, view: Rendering, valid: Tensor, scale: float, options: DirectOptions
) -> list[Term]:
    """The terms of one level; none where too few pixels are valid."""
    block = photometric_block(grey, view, valid, scale)
    if len(block) < _MIN_SAMPLES:
        return []
    terms = [Term(block, _SAMPLE_SIZE, _MIN_SIGMA)]
    described = feature_block(query.dense, view, valid) if options.feature_weight else None
    if described is not None and len(described):
        terms.append(Term(described, options.feature_weight * _SAMPLE_SIZE, _MIN_DISTANCE))
    return terms


def level_scales(view: Rendering, initial: PoseEstimate) -> list[float]:
    """Scales of the rendering, coarse to fine, from the first that reaches the expected image motion."""
    smallest = min(view.camera.width, view.camera.height)
    coarsest, motion_px = 0, expected_motion_px(view, initial)
    while coarsest < _COARSEST and motion_px > _REACH_PX and smallest / 2 >= _COARSEST_SIDE:
        coarsest, motion_px, smallest = coarsest + 1, motion_px / 2, smallest // 2
    return [0.5**level for level in range(coarsest, -1, -1)]


def expected_motion_px(view: Rendering, initial: PoseEstimate) -> float:
    """Root mean square motion of the rendering's pixels under the initial covariance; inf without one."""
    if initial.covariance is None:
        return float("inf")
    step = max(1, min(view.depth.shape) // 16)
    depth = view.depth[step // 2 :: step, step // 2 :: step]
    rows, columns = (depth > 0).nonzero(as_tuple=True)
    if len(rows) == 0:
        return float("inf")
    pixels = torch.stack([columns, rows], 1) * step + (step // 2 + 0.5)
    points = view.camera.unproject(pixels.to(depth), depth[rows, columns])
    motion = image_motion(view.camera, points)
    square = torch.trace(motion @ initial.covariance.double().cpu()).clamp(min=0).item()
    return view.camera.fx * square**0.5


def _accepted(objective: Objective, state: State, initial: PoseEstimate) -> bool:
    photometric, prior = objective.terms[0], objective.prior
    assert prior is not None  # `align` gives one
    enough = state.equations[0].seen >= _MIN_SEEN * len(photometric.block)
    alike = correlation(photometric, state) >= _MIN_CORRELATION
    before = objective.evaluate(prior.pose, state.exposure, state.sigmas)
    near = squared_distance(initial, prior.pose, state.pose) < _MAX_SQUARED_DISTANCE
    return enough and alike and near and state.cost < before.cost


def squared_distance(initial: PoseEstimate, before: Tensor, after: Tensor) -> float:
    """Squared Mahalanobis distance between two poses [4, 4] under the initial covariance; 0 without one."""
    if initial.covariance is None:
        return 0.0
    # In numpy: of so few numbers the calls dominate, and torch's take longer.
    away = se3.se3_log_numpy(after.cpu().numpy() @ np.linalg.inv(before.cpu().numpy()))
    return float(away @ np.linalg.solve(initial.covariance.double().cpu().numpy(), away))


def grid_sums(
    objective: Objective, state: State, view: Rendering, patches: Patches | None = None
) -> GridSums:
    """The pose's curvature and gradient at a minimum, for each cell of the image, for the block jackknife.

    The exposure, which all cells share, is eliminated.
    """
    pixels = [view.camera.project(term.block.points.T) for term in objective.terms]
    grid = Grid.over(pixels[0])
    hessian = torch.zeros(len(grid), UNKNOWNS, UNKNOWNS, dtype=torch.float64)
    gradient = torch.zeros(len(grid), UNKNOWNS, dtype=torch.float64)
    for term, sigma, found, at in zip(objective.terms, state.sigmas, state.equations, pixels, strict=True):
        residuals = found.residuals[~found.residuals.isnan()]
        correction = robust.curvature((residuals / (2 * sigma)) ** 2, term.block.channels)
        cells = cell_equations(term.block, state.pose, sigma, state.exposure, grid.index(at), len(grid))
        hessian += term.weight * correction * cells[0]
        gradient += term.weight * cells[1]
    whole = hessian.sum(0)
    nothing = 1e-12 * torch.eye(UNKNOWNS - POSE, dtype=torch.float64)
    follows = torch.linalg.solve(whole[POSE:, POSE:] + nothing, whole[POSE:, :POSE])
    keep = torch.cat([torch.eye(POSE, dtype=torch.float64), -follows.T], 1)
    sums = GridSums(keep @ hessian @ keep.T, gradient @ keep.T)
    if patches is None:
        return sums
    index = grid.index(patches.pixels)
    return sums + reprojection.grid_sums(view.camera, state.pose, patches.observed, index, len(grid))


@torch.no_grad()
def photometric_uncertainty(
    query: Query, gaussians: Gaussians, pose: Tensor, side: int
) -> tuple[Tensor, Tensor] | None:
    """Covariance (block jackknife) and information [6, 6] of a pose [4, 4] found by another objective.

    From the photometric residuals there, at a rendering of longer side `side`; None with too few pixels.
    """
    low_pass = rendering.shrunk_low_pass(query.camera, side)
    view = rendering.render_map(gaussians, query.camera, pose, side, low_pass=low_pass).to("cpu")
    grey = rendering.photo_grey(query.image, view.camera)
    block = photometric_block(grey, view, rendering.valid_depth_mask(view, _VALID_DEPTH), 1.0)
    if len(block) < _MIN_SAMPLES:
        return None
    objective = Objective([Term(block, _SAMPLE_SIZE, _MIN_SIGMA)])
    state = objective.start(torch.eye(4, dtype=torch.float64))
    return jackknife(grid_sums(objective, state, view)), marginal_information(state.hessian, POSE)
