"""Which of two places does an image show? Their renderings, where they differ, and the image in between.

A room that differs from another in a few pictures on its walls has nearly all landmarks in common with it,
and a verification score that is hardly less. So only what differs is compared: with colours a and b of two
renderings in a cell of the image, and q of the image, (2 q - a - b) (a - b) / (a - b)^2 is 1 where the image
shows the first place and -1 where it shows the second. Cells are weighted by the squared difference over the
variance of an error: the optimal linear discriminant between two known signals. An object
of neither place, such as a person, has no more weight than one of a place.

Landmarks are compared as well: the similarity of keypoints to those of each place at their pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
import torch
from torch import Tensor

from gsplatloc.localization.alignment.rendered_view import render_map, shrunk
from gsplatloc.localization.landmarks.file import Landmarks
from gsplatloc.localization.landmarks.guided import guided_pairs
from gsplatloc.localization.matching.nearest import Pairs
from gsplatloc.localization.queries import Query
from gsplatloc.localization.result import PoseEstimate
from gsplatloc.scene.splat_map import SplatMap


@dataclass(frozen=True)
class Scale:
    """The size at which images and renderings are compared."""

    max_side: int  # pixels, of the longer side of renderings
    cell: int  # pixels, of the side of a cell
    independent: float  # share of the cells whose errors are independent
    different: float  # least squared difference of two renderings in a cell over the variance of an error
    blur: float  # cells, of what an image is blurred by to notice a missing picture: 3 pixels of 160


# Differences: of 93 images of a building (seed 2), 29 had a coarse share below 0.3 without a limit, 13 with
# 1, and 10 with 3. At the true poses of 260 images (seed 3, 26 rooms), the right place is preferred to all of
# its rivals in 246 by the coarse comparison, and in 258 by the fine one with the weights of `distinct`.
COARSE, FINE = Scale(80, 2, 1.0, 3.0, 0.75), Scale(160, 1, 0.25, 6.0, 3.0)
_MIN_ALPHA = 0.5  # mean over a cell; a less opaque one is not covered by the map
_NOISE = 0.1  # standard deviation of a cell's colour, of maps that are a little blurred
_MISALIGNED = 0.5  # share of the variance around a cell that is an error: renderings are a pixel or so off
_LEAST_COVERED = 0.5  # share of the cells of one place that a map of another must cover to be compared
_GAINS = (0.5, 2.0)  # of a channel, by which a rendering may be darker or brighter than the image
_RADIUS_PX, _MIN_SIMILARITY = 3.0, 0.8  # of keypoints and landmarks at a projection
# What decides by itself. Of 427 comparisons of the right place with rivals (building of seed 2, 12 rooms, 700
# training steps a tile), 410 are decided for it, 17 remain open, and none is decided for the rival.
_SHARE, _LANDMARKS = 0.3, 3.0
_DISAGREE = 0.25  # of either, from which colours and landmarks that disagree leave it open
_OPEN = 0.9  # the largest score of either sign where they disagree
_EVIDENCE = 4.0  # from which the share counts in full, and may decide by itself
_OBVIOUS = 0.45  # share from which, with that evidence, the landmarks are not asked
_LEAST_PLACES = 4  # of which the typical deviation in a cell is known
_CHANNELS = np.ones(3, np.float32)  # a product with it sums them, in a fraction of the time of numpy's sum
_LEAST_WEIGHT = 0.02  # no difference of colours in a cell of less reaches `Scale.different`
# The largest difference of blurred colours between an image and the place it shows.
# It is less at 97 % of the true poses of 205 images (building of seed 3, 26 rooms), and at 25 % in rivals.
_UNLIKE = 0.3
_MOST = 0.9  # share of the blur of a pixel that the map must cover
_TYPICAL = 0.1  # colour: typical deviation of the maps of equal things


@dataclass(frozen=True)
class Preference:
    """How much more an image looks like one place than like another."""

    evidence: float  # half the weighted squared difference in favour of the first place, less the rest
    share: float  # that, relative to all of it, from -1 to 1
    landmarks: float = 0.0  # similarity of keypoints to landmarks of the first place, less that to the second

    @property
    def score(self) -> float:
        """Above 1 where the image shows the first place, below -1 where it shows the second."""
        weight = min(1.0, abs(self.evidence) / _EVIDENCE)
        colors = self.share * weight / _SHARE
        if weight < 1:  # a cell or two, whose share is often 1 or -1, decide nothing by themselves
            colors = min(max(colors, -weight), weight)
        landmarks = self.landmarks / _LANDMARKS
        if colors * landmarks < 0 and min(abs(colors), abs(landmarks)) > _DISAGREE:
            return min(max(colors + landmarks, -_OPEN), _OPEN)
        return colors + landmarks


@dataclass(frozen=True)
class View:
    """A place of a map at a pose of a query's camera."""

    query: Query
    splat_map: SplatMap
    landmarks: Landmarks
    estimate: PoseEstimate  # in the coordinates of the map
    scale: Scale = COARSE

    def covers(self, other: "View") -> bool:
        """Whether the map shows enough of what another one covers: else its place is not the query's."""
        both = self.rendered.covered & other.rendered.covered
        return bool(both.sum() > _LEAST_COVERED * other.rendered.covered.sum())

    @property
    def explained(self) -> bool:
        """Whether the rendering has the colours of the image, blurred: that of a rival lacks a picture."""
        return unlikeness(self.picture, self.rendered, self.scale.blur) < _UNLIKE

    def preferred_to(self, other: "View", weight: np.ndarray | None = None) -> Preference:
        """Whether the query shows this view rather than another one, by its colours and by landmarks.

        `weight` [R, C]: of cells, 1 without it.
        """
        found = preference(self.picture, self.rendered, other.rendered, weight, self.scale.different)
        found = replace(found, evidence=self.scale.independent * found.evidence)
        if abs(found.share) > _OBVIOUS and abs(found.evidence) >= _EVIDENCE:
            return found
        return replace(found, landmarks=float((self.similarities - other.similarities).sum()))

    @cached_property
    def picture(self) -> "Picture":
        return picture(self.query, self.scale)

    @cached_property
    def rendered(self) -> "Rendered":
        return rendered(self.query, self.splat_map, self.estimate.pose(), self.scale)

    @cached_property
    def pairs(self) -> Pairs:
        """The query's keypoints (a) and the landmarks (b) at their pixels."""
        keypoints = self.query.keypoints
        return guided_pairs(self.estimate, keypoints, self.landmarks, _RADIUS_PX, _MIN_SIMILARITY)

    @cached_property
    def similarities(self) -> Tensor:
        """Of the query's keypoints [N] with the landmarks at their pixels, above the least."""
        found = torch.zeros(len(self.query.keypoints))
        found[self.pairs.index_a.cpu()] = self.pairs.similarity.cpu() - _MIN_SIMILARITY
        return found


@dataclass(frozen=True)
class Picture:
    """The colours of an image in cells."""

    colors: np.ndarray  # [R, C, 3] float32 in [0, 1]
    variance: np.ndarray  # [R, C, 3] of an error of the difference between it and a rendering


@dataclass(frozen=True)
class Rendered:
    """The colours of a rendering in the same cells."""

    colors: np.ndarray  # [R, C, 3] float32
    covered: np.ndarray  # [R, C] bool


def picture(query: Query, scale: Scale = COARSE) -> Picture:
    """The query's image in cells."""
    small = shrunk(query.camera, scale.max_side)
    image = cv2.resize(query.image, (small.width, small.height), interpolation=cv2.INTER_AREA)
    colors = _cells(image.astype(np.float32) / 255, scale.cell)
    around = cv2.blur(colors, (3, 3))
    spread = np.maximum(cv2.blur(colors * colors, (3, 3)) - around * around, 0)
    return Picture(colors, _NOISE**2 + _MISALIGNED * spread)


@torch.no_grad()
def rendered(query: Query, splat_map: SplatMap, cam_from_map: Tensor, scale: Scale = COARSE) -> Rendered:
    """A map at a pose [4, 4] of the query's camera, in cells."""
    view = render_map(splat_map.gaussians, query.camera, cam_from_map, scale.max_side).to("cpu")
    colors = _cells(view.rgb.permute(1, 2, 0).contiguous().numpy(), scale.cell)
    alpha = _cells(view.alpha.numpy(), scale.cell)
    return Rendered(colors / np.maximum(alpha, _MIN_ALPHA)[..., None], alpha > _MIN_ALPHA)


def distinct(places: Sequence[Rendered]) -> np.ndarray | None:
    """Weights [R, C] in [0, 1] of cells in which renderings of four or more places differ; None of fewer.

    What the places have in common is equal in most maps, and one that is blurred there differs from the
    others; what each has of its own differs in all. So the weight is that of the median deviation from the
    median, over the maps that cover a cell; 0 where fewer than four do.
    """
    if len(places) < _LEAST_PLACES:
        return None
    covered = np.stack([place.covered for place in places])
    count = covered.sum(0)
    colors = np.stack([place.colors for place in places])  # [P, R, C, 3]
    colors[~covered] = np.inf  # the last of those that are sorted
    deviation = _median(np.abs(colors - _median(colors, count)), count)
    squares = np.where(count >= _LEAST_PLACES, (deviation * deviation) @ _CHANNELS, 0.0)
    return squares / (squares + _TYPICAL**2)


def _median(values: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The medians [R, C, 3] of the `count` [R, C] smallest of values [P, R, C, 3]; 0 of none.

    Sorted by exchanges of whole arrays: of eight values a twentieth of the time of numpy's median.
    """
    rows = list(values)
    for start in range(len(rows)):
        for at in range(start % 2, len(rows) - 1, 2):
            rows[at : at + 2] = np.minimum(*rows[at : at + 2]), np.maximum(*rows[at : at + 2])
    ordered, last = np.stack(rows), np.maximum(count - 1, 0)[None, ..., None]
    low, high = (np.take_along_axis(ordered, at, 0)[0] for at in (last // 2, (last + 1) // 2))
    return np.where(count[..., None] > 0, (low + high) / 2, 0)


def preference(
    image: Picture,
    first: Rendered,
    second: Rendered,
    weight: np.ndarray | None = None,
    different: float = COARSE.different,
) -> Preference:
    """Which of two renderings an image is more like, where both maps cover it.

    `weight` [R, C]: of cells, 1 without it; `different`: see `Scale`.
    """
    covered = (first.covered & second.covered).ravel()
    if not covered.any():
        return Preference(0.0, 0.0)
    parts = (image.colors, first.colors, second.colors, image.variance)
    q, a, b, variance = (part.reshape(-1, 3) for part in parts)
    gains = [_gains(colors, q, covered) for colors in (a, b)]
    counted = (covered if weight is None else covered & (weight.ravel() > _LEAST_WEIGHT)).nonzero()[0]
    q, a, b, variance = (part.take(counted, 0) for part in (q, a, b, variance))
    a, b = a * gains[0], b * gains[1]
    weighted = (a - b) / variance
    if weight is not None:
        weighted *= weight.ravel()[counted][:, None]
    squares = (weighted * (a - b)) @ _CHANNELS  # [K]
    squares[squares < different] = 0  # by which maps of equal things differ
    towards = (weighted * (2 * q - a - b)) @ _CHANNELS
    evidence = float(np.maximum(np.minimum(towards, squares), -squares).sum()) / 2
    return Preference(evidence, 2 * evidence / max(float(squares.sum()), 1e-9))


def unlikeness(image: Picture, place: Rendered, blur: float = FINE.blur) -> float:
    """The largest difference of blurred colours of an image and a rendering, where the map covers it.

    A blurred map differs little from the image, one with another picture on the wall by the picture.
    """
    shape, covered = image.colors.shape, place.covered.ravel()
    if not covered.any():
        return 0.0
    q, colors = image.colors.reshape(-1, 3), place.colors.reshape(-1, 3)
    difference = (q - colors * _gains(colors, q, covered)) * covered[:, None]
    known = cv2.GaussianBlur(place.covered.astype(np.float32), (0, 0), blur)
    blurred = cv2.GaussianBlur(difference.reshape(shape).astype(np.float32), (0, 0), blur)
    squares = (blurred * blurred) @ _CHANNELS / np.maximum(known, _MOST) ** 2
    return float(np.sqrt(squares[known > _MOST].max(initial=0.0)))


def _gains(colors: np.ndarray, wanted: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Factors [3] with which colours [N, 3] have the mean of the wanted ones, where `covered` [N]."""
    weights = covered.astype(np.float32)
    least = 1e-3 * weights.sum()
    gains: np.ndarray = np.clip((weights @ wanted + least) / (weights @ colors + least), *_GAINS)
    return gains


def _cells(values: np.ndarray, cell: int) -> np.ndarray:
    """The means over cells of an image [H, W] or [H, W, C]."""
    height, width = values.shape[:2]
    size = max(1, width // cell), max(1, height // cell)
    return cv2.resize(values, size, interpolation=cv2.INTER_AREA)
