"""What a rendering's pixels and patches say of a pose, by cells of the image: for its covariance."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gsplatloc.localization.alignment.levenberg_marquardt import State, Term
from gsplatloc.localization.alignment.patches import Patches
from gsplatloc.localization.alignment.rendered_view import Rendering
from gsplatloc.localization.alignment.residuals import POSE, UNKNOWNS, ResidualBlock, normal_equations
from gsplatloc.localization.pose import reprojection
from gsplatloc.localization.pose.covariance import Grid, GridSums
from gsplatloc.utils import robust


def alignment_sums(terms: Sequence[Term], state: State, patches: Patches | None, view: Rendering) -> GridSums:
    """What pixels and patches say of the pose around `state`, where the terms were evaluated."""
    places = [view.camera.project(term.block.points.T) for term in terms]
    grid = Grid.over(places[0])
    sums = _term_sums(terms, state, [grid.index(pixels) for pixels in places], len(grid))
    if patches is not None:
        index = grid.index(patches.places)
        sums += reprojection.grid_sums(view.camera, state.pose, patches.observed, index, len(grid))
    return sums


def _term_sums(terms: Sequence[Term], state: State, index: Sequence[Tensor], count: int) -> GridSums:
    hessian = torch.zeros(count, UNKNOWNS, UNKNOWNS, dtype=torch.float64)
    gradient = torch.zeros(count, UNKNOWNS, dtype=torch.float64)
    for term, sigma, said, part in zip(terms, state.sigmas, state.equations, index, strict=True):
        worth = term.effective / max(len(term.block), 1)
        residuals = said.residuals[~said.residuals.isnan()]
        coordinates = term.block.reference.shape[1] if term.block.kind == "features" else 1
        bent = worth * robust.curvature((residuals / (2 * sigma)) ** 2, coordinates)
        for number, block in enumerate(_divided(term.block, part, count)):
            if len(block):
                apart = normal_equations(block, state.pose, sigma, state.exposure)
                hessian[number] += bent * apart.hessian
                gradient[number] += worth * apart.gradient
    return _without_exposure(hessian, gradient)


def _without_exposure(hessian: Tensor, gradient: Tensor) -> GridSums:
    """[K, 8, 8] and [K, 8] -> the pose's; exposure, which all cells share, follows it."""
    whole = hessian.sum(0)
    nothing = 1e-12 * torch.eye(UNKNOWNS - POSE, dtype=torch.float64)
    follows = torch.linalg.solve(whole[POSE:, POSE:] + nothing, whole[POSE:, :POSE])
    keep = torch.cat([torch.eye(POSE, dtype=torch.float64), -follows.T], 1)
    return GridSums(keep @ hessian @ keep.T, gradient @ keep.T)


def _divided(block: ResidualBlock, part: Tensor, count: int) -> list[ResidualBlock]:
    """The block's samples of each part."""
    order = part.argsort(stable=True)
    return [_selected(block, index) for index in order.split(part.bincount(minlength=count).tolist())]


def _selected(block: ResidualBlock, index: Tensor) -> ResidualBlock:
    reference = block.reference if block.kind == "inverse_depth" else block.reference[index]
    slopes = None if block.slopes is None else block.slopes[:, index]
    return replace(block, points=block.points[:, index], reference=reference, slopes=slopes)
