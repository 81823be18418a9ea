"""Second-order alignment of an RGB-D image with keyframes: local contrast and inverse depth, coarse to fine.

The same residuals and the same search as the refiner `lm`, with one difference: references are not renderings
but what the sensor saw at the keyframes, so that no error of a rendering enters, and the sensor's depth is
compared as well. Several keyframes at once hold a pose better than the last alone, and a place seen before is
found again as soon as the camera is back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gsplatloc.localization.alignment.blocks import ContrastOptions, intrinsics_of
from gsplatloc.localization.alignment.levenberg_marquardt import (
    Anchor,
    LevenbergOptions,
    State,
    Term,
    minimise,
)
from gsplatloc.localization.alignment.residuals import POSE, ResidualBlock
from gsplatloc.localization.refine.lm import correlation
from gsplatloc.scene.cameras import Camera
from gsplatloc.tracking.frames import Frame, Level
from gsplatloc.tracking.keyframes import Keyframe, make_keyframe, overlap, view_shift
from gsplatloc.tracking.protocol import Tracked
from gsplatloc.utils.errors import GSplatLocError

_LEAST_SAMPLES = 50  # of a kind: fewer cannot hold a pose


@dataclass(frozen=True)
class LmOptions:
    """How frames are aligned. Defaults were chosen on RedKitchen's training frames."""

    search: LevenbergOptions = field(default_factory=lambda: LevenbergOptions(iterations=15))  # of each level
    contrast: ContrastOptions = field(default_factory=ContrastOptions)  # of the references' samples
    colour_weight: float = 1000.0  # independent observations that all grey values are worth; 0 = not used
    depth_weight: float = 100.0  # likewise all depths: a Kinect's errors are alike over whole regions
    least_contrast: float = 0.05  # of the residuals' noise: two photos of a place agree no better
    least_inverse_depth: float = 5e-5  # in 1/m, likewise: 0.2 mm at 2 m, the step of the finest depth formats
    references: int = 3  # keyframes compared at once, those that look most alike
    surface_samples: int = 4000  # depths of a keyframe
    keyframe_shift: float = 0.07  # radians of view that the surface moves between two keyframes
    keyframe_overlap: float = 0.85  # share of the nearest keyframe that must be in view
    min_seen: float = 0.25  # share of the samples of a kind that must be in view, or they say nothing
    min_correlation: float = 0.3  # of contrasts in view, or it is another place
    most_inverse_depth: float = 0.05  # of the depths' deviation, 1/m, or it is another place

    def __post_init__(self) -> None:
        counts = {
            "references": self.references,
            "surface_samples": self.surface_samples,
            "contrast.samples": self.contrast.samples,
        }
        for name, count in counts.items():
            if count < 1:
                raise GSplatLocError(f"expected --lm.{name} of at least 1, found {count}")
        if max(self.colour_weight, self.depth_weight) <= 0:
            raise GSplatLocError(
                "expected --lm.colour_weight or --lm.depth_weight above 0, found neither: nothing is compared"
            )


class LmAligner:
    """`Aligner` by direct alignment with keyframes, Levenberg-Marquardt."""

    def __init__(self, options: LmOptions | None = None):
        self.options = options or LmOptions()
        self._keyframes: list[Keyframe] = []

    def start(self, frame: Frame, cam_from_world: Tensor) -> None:
        self._keep(frame, cam_from_world)

    def track(self, frame: Frame, predicted: Tensor) -> Tracked:
        """The pose near `predicted` [4, 4] at which the frame agrees with the keyframes around."""
        nearest = self._nearest(frame.camera, predicted)
        state, terms = align(frame, nearest, predicted, self.options)
        ok = any(_holds(term, state, index, self.options) for index, term in enumerate(terms))
        keyframe = ok and self._is_news(nearest[0], frame.camera, state.pose)
        if keyframe:
            self._keep(frame, state.pose)
        return Tracked(state.pose, ok, keyframe)

    def _keep(self, frame: Frame, pose: Tensor) -> None:
        self._keyframes.append(
            make_keyframe(frame, pose, self.options.contrast, self.options.surface_samples)
        )

    def _nearest(self, camera: Camera, pose: Tensor) -> list[Keyframe]:
        ordered = sorted(self._keyframes, key=lambda keyframe: view_shift(keyframe, camera, pose))
        return ordered[: self.options.references]

    def _is_news(self, nearest: Keyframe, camera: Camera, pose: Tensor) -> bool:
        """Whether a frame shows what its nearest keyframe does not."""
        moved = view_shift(nearest, camera, pose) > self.options.keyframe_shift
        return moved or overlap(nearest, camera, pose) < self.options.keyframe_overlap


def align(
    frame: Frame, references: Sequence[Keyframe], start: Tensor, options: LmOptions
) -> tuple[State, list[Term]]:
    """The pose of least cost near `start` [4, 4], cam_from_world, through the levels of `frame`.

    Returned with the terms of the finest level, which the state's equations belong to.
    """
    nothing = Anchor(start, torch.zeros(POSE, POSE, dtype=torch.float64))
    state, terms = None, []
    for index in reversed(range(len(frame.levels))):
        terms = _terms(frame.levels[index], index, references, options)
        state = minimise(terms, start if state is None else state.pose, nothing, options.search)
    assert state is not None  # a frame has levels
    return state, terms


def _holds(term: Term, state: State, index: int, options: LmOptions) -> bool:
    """Whether one kind of samples is in view and says what the references say."""
    said = state.equations[index]
    if said.seen < max(_LEAST_SAMPLES, options.min_seen * len(term.block)):
        return False
    if term.block.kind == "photometric":
        return correlation(term, state) > options.min_correlation
    return state.sigmas[index] < options.most_inverse_depth


def _terms(level: Level, index: int, references: Sequence[Keyframe], options: LmOptions) -> list[Term]:
    terms = []
    if options.colour_weight > 0:
        block = _joined([keyframe.colour[index] for keyframe in references], level.contrast, level)
        terms.append(Term(block, options.colour_weight, options.least_contrast))
    if options.depth_weight > 0:
        block = _joined([keyframe.surface for keyframe in references], level.inverse_depth, level)
        terms.append(Term(block, options.depth_weight, options.least_inverse_depth))
    return terms


def _joined(blocks: Sequence[ResidualBlock], image: Tensor, level: Level) -> ResidualBlock:
    """The samples of all references in one block, to be compared with `image`."""
    slopes = [block.slopes for block in blocks if block.slopes is not None]
    return ResidualBlock(
        blocks[0].kind,
        torch.cat([block.points for block in blocks], 1),
        torch.cat([block.reference for block in blocks]),
        image,
        intrinsics_of(level.camera),
        torch.cat(slopes, 1) if slopes else None,
    )
