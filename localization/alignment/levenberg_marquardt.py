"""Levenberg-Marquardt on SE(3), gain and bias.

The objective is a negative log likelihood in units of independent residuals. A step with an expected decrease
far below 1 moves the pose by much less than its standard deviation: the search ends there.
"""

from dataclasses import replace

import torch
from torch import Tensor

from gsplatloc.localization.alignment.residuals import GainBias, Objective, State

ITERATIONS = 10  # maximum number of steps; 5 over all levels are usual
_RAISE, _LOWER = 10.0, 0.1  # of the damping, after a rejected and an accepted step (Marquardt 1963)
_FIRST_DAMPING, _MIN_DAMPING, _MAX_DAMPING = 1e-4, 1e-6, 1e3  # relative to the diagonal of J^T W J
_MIN_GAIN = 0.05  # expected decrease of the negative log likelihood below which the search ends
_NOISE_ROUNDS = 3  # accepted steps after which the residuals' noise is measured again
_NO_INFORMATION = 1e-9  # added to the diagonal: an unobserved unknown stays where it is


def levenberg_marquardt(
    objective: Objective, start: Tensor, exposure: GainBias | None = None, iterations: int = ITERATIONS
) -> State:
    """The pose of least cost near `start` [4, 4], query from reference."""
    state = objective.start(start, exposure)
    damping, tried = _FIRST_DAMPING, 0
    for tried in range(1, iterations + 1):
        step, gain = _step(state, damping)
        if gain < _MIN_GAIN:
            break
        candidate = objective.moved(state, step)
        if candidate.cost < state.cost:
            state = objective.with_measured_noise(candidate) if tried <= _NOISE_ROUNDS else candidate
            damping = max(damping * _LOWER, _MIN_DAMPING)
        elif damping < _MAX_DAMPING:
            damping *= _RAISE
        else:
            break
    return replace(state, iterations=tried)


def _step(state: State, damping: float) -> tuple[Tensor, float]:
    """The damped step [8], and the decrease of the cost that the quadratic model predicts for it."""
    damped = state.hessian + torch.diag(damping * state.hessian.diagonal() + _NO_INFORMATION)
    step = -torch.linalg.solve(damped, state.gradient)
    gain = -(state.gradient @ step + 0.5 * step @ state.hessian @ step).item()
    return step, gain
