"""Does measured depth agree with the points triangulated from the poses: its unit, its kind, its content?"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gsplatloc.mapping.triangulation import Tracks
from gsplatloc.scene.cameras import View
from gsplatloc.scene.images import DEPTH_UNITS_PER_METRE, DepthLoader
from gsplatloc.utils import se3
from gsplatloc.utils.console import figures, log

_VIEWS = 20  # in which measured depth is compared with tracks
_OBSERVATIONS = 30  # least number of comparisons, in all and in a view that shows how they vary
# Median deviation of the logarithm of measured from expected depth: of sensors and tracks; of other images.
_SENSOR_SPREAD, _MAX_SPREAD = 0.05, 0.2
_SCALE_TOLERANCE = 1.5  # factor; sensors are off by a few percent, other units by 4 and more
_LEAST_VIEWS = 5  # that show whether depth grows towards the image's border
_LEAST_STRETCH = 0.005  # standard deviation of `stretch`; views of a telephoto lens of 25 degrees have 0.007
_SLOPE_TOLERANCE = 0.3  # real and synthetic sequences are within 0.02 of 0, along the ray of 1
_REWEIGHTINGS, _LEAST_RESIDUAL = 20, 1e-3  # of the logarithm of depth, below which all count alike

# Whether measured depth grows towards the border -> what it seems to be.
_OTHER_KIND = {
    True: "measured depth grows towards the borders of the images as distances along the rays of the pixels"
    " do: the depth images seem to hold these, and not depth along the optical axis; see --depth_along_rays",
    False: "measured depth falls towards the borders of the images: the depth images seem to hold depth along"
    " the optical axis; leave out --depth_along_rays",
}


@dataclass(frozen=True)
class ComparedDepths:
    """Observations of triangulated points in images with depth."""

    measured: np.ndarray  # [M] metres, 0 where there is none
    expected: np.ndarray  # [M] metres along the optical axis, of the triangulated points
    stretch: np.ndarray  # [M] logarithm of the distance along the ray relative to the depth
    view: np.ndarray  # [M] int64, index into the views

    def measurements(self) -> "ComparedDepths":
        """The observations at which there is a measurement."""
        kept = self.measured > 0
        return ComparedDepths(self.measured[kept], self.expected[kept], self.stretch[kept], self.view[kept])


def compared_depths(views: Sequence[View], tracks: Tracks) -> ComparedDepths:
    """The observations of `tracks` in up to `_VIEWS` of the `views` with depth."""
    with_depth = [index for index, view in enumerate(views) if view.load_depth is not None]
    found = [np.zeros((4, 0))]
    for index in with_depth[:: max(1, math.ceil(len(with_depth) / _VIEWS))]:
        view = views[index]
        seen = torch.from_numpy(tracks.positions[tracks.observed_track[tracks.observed_view == index]])
        in_camera = se3.transform(view.cam_from_world, seen)
        in_camera = in_camera[in_camera[:, 2] > 0]
        if not len(in_camera) or view.load_depth is None:
            continue
        columns, rows = view.camera.project(in_camera).long().T.numpy()
        inside = (columns >= 0) & (columns < view.camera.width) & (rows >= 0) & (rows < view.camera.height)
        measured = view.load_depth()[rows[inside], columns[inside]]
        expected = in_camera[:, 2].numpy()[inside]
        stretch = np.log(in_camera.norm(dim=1).numpy()[inside] / expected)
        found.append(np.stack([measured, expected, stretch, np.full(len(measured), index)]))
    measured, expected, stretch, view_index = np.concatenate(found, 1)
    return ComparedDepths(measured, expected, stretch, view_index.astype(np.int64))


def report_depth(views: Sequence[View], tracks: Tracks) -> None:
    """Warn on stderr if the depth images contradict the poses.

    They may be empty, of another unit, distances along the ray of each pixel, inverted, or of other images.
    """
    every = compared_depths(views, tracks)
    found = every.measurements()
    if len(every.measured) >= _OBSERVATIONS and not len(found.measured):
        log("warning: the depth images hold no measurement: check how they were written", stream=sys.stderr)
    if len(found.measured) < _OBSERVATIONS:
        return
    ratio = np.log(found.measured / found.expected)
    scale, spread = float(np.exp(np.median(ratio))), _spread(ratio)
    pair = np.log(found.measured), np.log(found.expected)
    inverted = spread > _SENSOR_SPREAD and np.corrcoef(*pair)[0, 1] < 0
    if spread > _MAX_SPREAD or inverted:
        log(
            "warning: measured depth agrees in no unit with the points triangulated from the poses: the depth"
            " may be inverted, or of other images",
            stream=sys.stderr,
        )
        return
    warn_of_scale(views, scale, "measured depth", "the depth of points triangulated from the poses")
    slope = ray_slope(found)
    if slope is not None and abs(abs(slope) - 1) < _SLOPE_TOLERANCE:
        log(f"warning: {_OTHER_KIND[slope > 0]}", stream=sys.stderr)


def ray_slope(found: ComparedDepths) -> float | None:
    """How the measurements grow along the ray: 0 as depth does, 1 as distances do; None if it is uncertain.

    That is the slope of log(measured / expected) over `stretch`, the median over the views. What else may be
    wrong with depth varies from view to view.
    """
    ratio = np.log(found.measured / found.expected)
    slopes = []
    for index in np.unique(found.view):
        seen = found.view == index
        if seen.sum() >= _OBSERVATIONS and found.stretch[seen].std() >= _LEAST_STRETCH:
            slopes.append(_slope(found.stretch[seen], ratio[seen]))
    if len(slopes) < _LEAST_VIEWS:
        return None
    slope = float(np.median(slopes))
    straight = _spread(ratio - slope * found.stretch)
    deviation = _spread(np.array(slopes)) / math.sqrt(len(slopes))
    return slope if straight <= _spread(ratio) and deviation < _SLOPE_TOLERANCE / 3 else None


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    """The slope of a line through points, by least absolute deviations (reweighted least squares)."""
    weight = np.ones(len(x))
    for _ in range(_REWEIGHTINGS):
        x_mean, y_mean = np.average(x, weights=weight), np.average(y, weights=weight)
        slope = (weight * (x - x_mean) * (y - y_mean)).sum() / (weight * (x - x_mean) ** 2).sum()
        weight = 1 / np.maximum(np.abs(y - y_mean - slope * (x - x_mean)), _LEAST_RESIDUAL)
    return float(slope)


def _spread(values: np.ndarray) -> float:
    """The median absolute deviation from the median."""
    return float(np.median(np.abs(values - np.median(values))))


def warn_of_scale(views: Sequence[View], scale: float, measured: str, reference: str) -> None:
    """Warn on stderr if what was `measured` with the depth of `views` is not as large as `reference`."""
    if 1 / _SCALE_TOLERANCE < scale < _SCALE_TOLERANCE:
        return
    loaders = (view.load_depth for view in views if isinstance(view.load_depth, DepthLoader))
    used = next((loader.units() for loader in loaders), DEPTH_UNITS_PER_METRE)
    log(
        f"warning: {measured} is {figures(scale)} times {reference}: the depth images seem to have"
        f" {figures(used * scale, 4)} units per unit of the poses, not {figures(used, 4)}; see --depth_units",
        stream=sys.stderr,
    )
