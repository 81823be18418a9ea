"""Tracking by `lm`: second-order alignment of an RGB-D image with keyframes, coarse to fine.

The residual blocks and the minimiser of the refinement `lm`, with one difference: the references are not
renderings but sensor images of the keyframes, so that errors of rendering do not enter, and the sensor's
depth is compared as well. Several keyframes determine the pose better than the last alone, and drift is
corrected where the camera returns to a place.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gsplatloc.localization.alignment.blocks import intrinsics_of
from gsplatloc.localization.alignment.levenberg_marquardt import levenberg_marquardt
from gsplatloc.localization.alignment.residuals import Objective, ResidualBlock, State, Term, correlation
from gsplatloc.scene.cameras import Camera
from gsplatloc.tracking.frames import FrameLevel, RgbdFrame
from gsplatloc.tracking.keyframes import Keyframe, make_keyframe, overlap, view_shift
from gsplatloc.tracking.options import KeyframeOptions
from gsplatloc.tracking.protocol import Tracked

_ITERATIONS = 15  # maximum number of steps of a level
_MIN_CONTRAST = 0.05  # standard deviation of the residuals: two images of a place agree no better
_MIN_INVERSE_DEPTH = 5e-5  # likewise, 1/m: 0.2 mm at 2 m, the step of the finest depth formats
_REFERENCES = 3  # keyframes compared at once, those with the least image motion
_SURFACE_SAMPLES = 4000  # depths of a keyframe
_MIN_SAMPLES = 50  # in view, of a term: fewer do not determine a pose
_MIN_SEEN = 0.25  # share of a term's samples that must be in view
_MIN_CORRELATION = 0.3  # of local contrast in view: less is another place
_MAX_INVERSE_DEPTH = 0.05  # standard deviation of the depth residuals, 1/m: more is another place


class KeyframeAligner:
    """`Aligner` by direct alignment with keyframes, Levenberg-Marquardt."""

    def __init__(self, options: KeyframeOptions | None = None):
        self.options = options or KeyframeOptions()
        self._keyframes: list[Keyframe] = []

    def start(self, frame: RgbdFrame, cam_from_world: Tensor) -> None:
        self._keep(frame, cam_from_world)

    def track(self, frame: RgbdFrame, predicted: Tensor) -> Tracked:
        """The pose near `predicted` [4, 4] at which the frame agrees with the nearest keyframes."""
        nearest = self._nearest(frame.camera, predicted)
        state, objective = align_with_keyframes(frame, nearest, predicted, self.options)
        ok = any(_agrees(term, state, index) for index, term in enumerate(objective.terms))
        keyframe = ok and self._is_new(nearest[0], frame.camera, state.pose)
        if keyframe:
            self._keep(frame, state.pose)
        return Tracked(state.pose, ok, keyframe)

    def _keep(self, frame: RgbdFrame, pose: Tensor) -> None:
        self._keyframes.append(make_keyframe(frame, pose, _SURFACE_SAMPLES))

    def _nearest(self, camera: Camera, pose: Tensor) -> list[Keyframe]:
        ordered = sorted(self._keyframes, key=lambda keyframe: view_shift(keyframe, camera, pose))
        return ordered[:_REFERENCES]

    def _is_new(self, nearest: Keyframe, camera: Camera, pose: Tensor) -> bool:
        """Whether a frame shows more than its nearest keyframe."""
        moved = view_shift(nearest, camera, pose) > self.options.keyframe_shift
        return moved or overlap(nearest, camera, pose) < self.options.keyframe_overlap


def align_with_keyframes(
    frame: RgbdFrame, references: Sequence[Keyframe], start: Tensor, options: KeyframeOptions
) -> tuple[State, Objective]:
    """The pose of least cost near `start` [4, 4], cam_from_world, through the levels of `frame`.

    Returned with the objective of the finest level, to which the state belongs.
    """
    pose = start
    for index in reversed(range(len(frame.levels))):
        objective = Objective(_terms(frame.levels[index], index, references, options))
        state = levenberg_marquardt(objective, pose, iterations=_ITERATIONS)
        pose = state.pose
    return state, objective


def _agrees(term: Term, state: State, index: int) -> bool:
    """Whether enough samples of a term are in view, and the frame agrees with the references there."""
    if state.equations[index].seen < max(_MIN_SAMPLES, _MIN_SEEN * len(term.block)):
        return False
    if term.block.kind == "photometric":
        return correlation(term, state, index) > _MIN_CORRELATION
    return state.sigmas[index] < _MAX_INVERSE_DEPTH


def _terms(
    level: FrameLevel, index: int, references: Sequence[Keyframe], options: KeyframeOptions
) -> list[Term]:
    terms = []
    if options.colour_weight > 0:
        block = _joined([keyframe.colour[index] for keyframe in references], level.contrast, level)
        terms.append(Term(block, options.colour_weight, _MIN_CONTRAST))
    if options.depth_weight > 0:
        block = _joined([keyframe.surface for keyframe in references], level.inverse_depth, level)
        terms.append(Term(block, options.depth_weight, _MIN_INVERSE_DEPTH))
    return terms


def _joined(blocks: Sequence[ResidualBlock], image: Tensor, level: FrameLevel) -> ResidualBlock:
    """The samples of all references in one block, to be compared with `image`."""
    gradients = [block.gradients for block in blocks if block.gradients is not None]
    return ResidualBlock(
        blocks[0].kind,
        torch.cat([block.points for block in blocks], 1),
        torch.cat([block.reference for block in blocks]),
        image,
        intrinsics_of(level.camera),
        torch.cat(gradients, 1) if gradients else None,
    )
