"""Matches between a query image and a rendering from nearly the same pose, for lifting by rendered depth.

Where the pose is known to centimetres the match of a pixel is near it: searches are confined to a window. On
held-out RedKitchen views, initial poses of 0.55 cm improved to 0.32 cm with `track`, 0.43 with
`match_keypoints`; `match_map`, 0.87, is for initial poses from further away (`wide_baseline_pose`).
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.localization.alignment import rendered_view as rendering
from gsplatloc.localization.alignment.rendered_view import Rendering, ValidDepth
from gsplatloc.localization.features import Keypoints
from gsplatloc.localization.pose.pnp import estimate_pose
from gsplatloc.localization.queries import Query
from gsplatloc.localization.result import PoseEstimate, Status
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils import se3

_WINDOW = 21  # pixels: side of the patches of Lucas-Kanade
_LEVELS = 3  # of its pyramid above the image itself
_FLAT = 0.02  # grey values: a local standard deviation below it is noise
_CONTRAST_SIGMA = 4.0  # pixels: neighbourhood over which contrast is normalised
_CORNER_QUALITY = 0.01  # relative to the strongest corner
_CORNER_SPACING = 6.0  # pixels
_MAX_RETURN_PX = 0.5  # a track there and back must end where it began
# Of `wide_baseline_pose`. Limits of depth are looser than for direct alignment: RANSAC rejects wrong depths.
# With 0.9 and 0.02, 5 more of 120 initial poses on held-out views failed, all with an overlap below 0.3.
_WIDE_DEPTH = ValidDepth(min_alpha=0.7, max_depth_step=0.1)
_WIDE_ROUNDS = 2  # renderings, each at the pose found from the last
_WIDE_SIDE = 320  # pixels: the longer side of the rendered depth; descriptors have the cells of the query's
_WIDE_KEYPOINTS = 1024  # of the query image, the strongest
_WIDE_COSINE = 0.6  # minimum between descriptors that match


@dataclass(frozen=True)
class Correspondences:
    """Pixels that show the same place, both at the rendering's size."""

    query: Tensor  # [M, 2] float32, of the query image
    rendering: Tensor  # [M, 2] float32


def track(image: np.ndarray, view: Rendering, valid: Tensor, window_px: float, count: int) -> Correspondences:
    """Corners of the rendering tracked into the query image by pyramidal Lucas-Kanade, and back.

    Sub-pixel and independent of exposure: both images are normalised to local contrast first. `valid` [H, W]
    masks the pixels of the rendering; `image` [H, W, 3] uint8 is resampled to its size.
    """
    query, rendered = _contrasts(image, view)
    corners = _corners(rendered, valid, count)
    if corners is None:
        return _correspondences(view)
    there, found = _lucas_kanade(rendered, query, corners, corners, _LEVELS)
    back, returned = _lucas_kanade(query, rendered, there, there, _LEVELS)
    good = found & returned
    good &= np.linalg.norm(back - corners, axis=2).ravel() < _MAX_RETURN_PX
    good &= np.linalg.norm(there - corners, axis=2).ravel() < window_px
    return _correspondences(view, there[good], corners[good])


def follow(
    image: np.ndarray, view: Rendering, valid: Tensor, query_from_view: Tensor, window_px: float, count: int
) -> Correspondences:
    """Corners of the rendering in the query image, within a window around their projections at a pose [4, 4].

    For poses that are right to a pixel: no pyramid, and no tracking back, which would take as long again.
    """
    query, rendered = _contrasts(image, view)
    corners = _corners(rendered, valid, count)
    if corners is None:
        return _correspondences(view)
    points = rendering.lift(view, torch.from_numpy(corners[:, 0]).to(view.depth) + 0.5).double().cpu()
    moved = se3.transform(query_from_view, points)
    expected = (view.camera.project(moved) - 0.5).float().numpy()[:, None]
    there, found = _lucas_kanade(rendered, query, corners, expected, 0)
    good = found & (moved[:, 2] > 0).numpy()
    good &= np.linalg.norm(there - expected, axis=2).ravel() < window_px
    return _correspondences(view, there[good], corners[good])


def _contrasts(image: np.ndarray, view: Rendering) -> tuple[np.ndarray, np.ndarray]:
    """Query image and rendering as 8-bit images of local contrast, of the rendering's size."""
    greys = rendering.photo_grey(image, view.camera), view.grey.cpu().numpy()
    query, rendered = (_eight_bits(normalised_contrast(grey, _CONTRAST_SIGMA)) for grey in greys)
    return query, rendered


def _corners(rendered: np.ndarray, valid: Tensor, count: int) -> np.ndarray | None:
    """Corners [N, 1, 2] among the valid pixels, the strongest first; None in a flat image."""
    mask = valid.cpu().numpy().astype(np.uint8)
    corners = cv2.goodFeaturesToTrack(rendered, count, _CORNER_QUALITY, _CORNER_SPACING, mask=mask)
    return None if corners is None else corners.reshape(-1, 1, 2)


def _correspondences(view: Rendering, *pixels: np.ndarray) -> Correspondences:
    """From OpenCV's pixels [N, 1, 2], whose first centre is at (0, 0), not (0.5, 0.5); empty without any."""
    given = pixels or (np.zeros((0, 1, 2), np.float32),) * 2
    query, rendered = (torch.from_numpy(each[:, 0]).to(view.depth) + 0.5 for each in given)
    return Correspondences(query, rendered)


def _lucas_kanade(
    a: np.ndarray, b: np.ndarray, start: np.ndarray, guess: np.ndarray, levels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Positions [N, 1, 2] in `b`, near `guess`, of the patches at `start` in `a`, and which were found."""
    window, flags = (_WINDOW, _WINDOW), cv2.OPTFLOW_USE_INITIAL_FLOW
    end, found, _ = cv2.calcOpticalFlowPyrLK(
        a, b, start, guess.copy(), winSize=window, maxLevel=levels, flags=flags
    )
    return end, found.ravel() > 0


def normalised_contrast(grey: np.ndarray, sigma: float) -> np.ndarray:
    """Local contrast normalisation: grey [H, W] in [0, 1] -> float32, local mean 0 and standard deviation 1.

    Exposure, shading, vignetting and some of the map's blur drop out. `sigma` pixels is the size of the
    neighbourhood.
    """
    mean = cv2.GaussianBlur(grey, (0, 0), sigma)
    variance = cv2.GaussianBlur(grey * grey, (0, 0), sigma) - mean * mean
    deviation = np.sqrt(np.maximum(variance, 0)) + _FLAT  # noise of flat regions is not amplified
    return (grey - mean) / deviation


def _eight_bits(contrast: np.ndarray) -> np.ndarray:
    """Contrast [H, W] -> uint8, the input of OpenCV's tracker."""
    return np.clip(128 + 48 * contrast, 0, 255).astype(np.uint8)


def match_keypoints(
    query: Keypoints, rendering: Keypoints, window_px: float, min_cosine: float
) -> Correspondences:
    """Mutual nearest neighbours among keypoints no further apart than the window."""
    cosine = _windowed(query.descriptors @ rendering.descriptors.T, query.xy, rendering.xy, window_px)
    row, column = _mutual(cosine, min_cosine)
    return Correspondences(query.xy[row], rendering.xy[column])


def match_map(
    query: Keypoints, features: Tensor, size: tuple[int, int], window_px: float, min_cosine: float
) -> Correspondences:
    """Mutual nearest neighbours between keypoints and cells of a rendered feature map [D, h, w].

    The match is located between cells, at the vertex of the parabola through the cosines of the best cell and
    its neighbours. `size` is (width, height) of the rendering in pixels.
    """
    _, height, width = features.shape
    cell = features.new_tensor([size[0] / width, size[1] / height])
    cells = F.normalize(features.flatten(1).T, dim=1)
    index = torch.arange(height * width, device=features.device)
    centre = (torch.stack([index % width, index // width], 1) + 0.5) * cell
    raw = query.descriptors @ cells.T
    row, best = _mutual(_windowed(raw, query.xy, centre, window_px), min_cosine)
    x, y = best % width, best // width
    inner = (x > 0) & (y > 0) & (x < width - 1) & (y < height - 1)
    row, best = row[inner], best[inner]
    beside = torch.tensor([[-1, 0, 1, -width, width]], device=features.device)
    at = raw[row[:, None], best[:, None] + beside]
    offset = torch.stack([_vertex(at[:, 0], at[:, 1], at[:, 2]), _vertex(at[:, 3], at[:, 1], at[:, 4])], 1)
    return Correspondences(query.xy[row], centre[best] + offset * cell)


def _vertex(before: Tensor, at: Tensor, after: Tensor) -> Tensor:
    """The maximum of the parabola through values at -1, 0, 1, within half a step."""
    curvature = (2 * at - before - after).clamp(min=1e-6)
    return (0.5 * (after - before) / curvature).clamp(-0.5, 0.5)


def _windowed(cosine: Tensor, a: Tensor, b: Tensor, window_px: float) -> Tensor:
    """`cosine` [N, M] where positions a [N, 2] and b [M, 2] are within the window of each other, else -1."""
    return torch.where(torch.cdist(a, b) < window_px, cosine, -1.0)


def _mutual(cosine: Tensor, min_cosine: float) -> tuple[Tensor, Tensor]:
    """Rows and columns of the mutual maxima of `cosine` [N, M] above `min_cosine`."""
    if not cosine.numel():  # no keypoints: torch has no maximum of nothing
        none = torch.zeros(0, dtype=torch.int64, device=cosine.device)
        return none, none
    best, column = cosine.max(1)
    row = torch.arange(len(cosine), device=cosine.device)
    keep = (cosine.argmax(0)[column] == row) & (best > min_cosine)
    return row[keep], column[keep]


def wide_baseline_pose(query: Query, gaussians: Gaussians, initial: PoseEstimate) -> PoseEstimate:
    """A pose near enough for direct alignment, which converges from a few pixels, found from `initial`.

    Keypoints of the query image are matched with the descriptors rendered at the pose, without a window, and
    PnP with RANSAC gives the next pose, which overlaps more. `initial` itself where the matches support none.
    """
    best = initial
    for _ in range(_WIDE_ROUNDS):
        found = _wide_baseline_round(query, gaussians, best)
        if not found.ok or (best is not initial and found.inliers <= best.inliers):
            break
        best = replace(
            found,
            covariance=None,
            information=None,
            distortion=initial.distortion,
            camera_covariance=initial.camera_covariance,
        )
    return best


def _wide_baseline_round(query: Query, gaussians: Gaussians, estimate: PoseEstimate) -> PoseEstimate:
    cells = (query.dense.shape[1], query.dense.shape[2])
    view = rendering.render_map(gaussians, query.camera, estimate.pose(), _WIDE_SIDE, cells)
    if view.features is None:
        return PoseEstimate(Status.TOO_FEW_MATCHES, query.camera)
    keypoints = query.keypoints.select(slice(0, _WIDE_KEYPOINTS))
    # Pixels of both images are given at the size of the query image.
    size = (query.camera.width, query.camera.height)
    pairs = match_map(keypoints, view.features, size, float("inf"), _WIDE_COSINE)
    scale = pairs.rendering.new_tensor([view.camera.width / size[0], view.camera.height / size[1]])
    shown = pairs.rendering * scale
    kept = rendering.inside(rendering.valid_depth_mask(view, _WIDE_DEPTH), shown)
    world = rendering.to_world(view, rendering.lift(view, shown[kept]))
    return estimate_pose(pairs.query[kept].double().cpu().numpy(), world.numpy(), query.camera)
