"""Matches between a photo and a rendering of nearly the same view.

Mostly the estimate is within centimetres, so that a pixel's partner is near: searches are confined to a
window, which only a start from anywhere (`refine/wide.py`) leaves open. All give pixels of the photo, at the
rendering's size, beside pixels of the rendering, which has depth. On held-out RedKitchen views tracks took a
prior of 0.55 cm to 0.32 cm, keypoints to 0.43, the map to 0.87.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.localization.alignment.rendered_view import Rendering, lift, photo_grey
from gsplatloc.localization.features import Keypoints

_WINDOW = 21  # pixels: side of the patches that Lucas-Kanade compares
_LEVELS = 3  # of its pyramid above the image itself
_FLAT = 0.02  # grey: contrast below it is noise
_CONTRAST_SIGMA = 4.0  # pixels: neighbourhood over which contrast is normalised
_CORNER_QUALITY = 0.01  # of the strongest corner; weaker ones are flat
_CORNER_SPACING = 6.0  # pixels
_MAX_RETURN_PX = 0.5  # a track there and back must end where it began


@dataclass(frozen=True)
class Correspondences:
    """Pixels that show the same place."""

    photo: Tensor  # [M, 2] float32
    rendering: Tensor  # [M, 2] float32


def track(
    image: np.ndarray, view: Rendering, trusted: Tensor, window_px: float, count: int
) -> Correspondences:
    """Corners of the rendering followed into the photo by pyramidal Lucas-Kanade, and back.

    Sub-pixel, and blind to exposure: both images are normalised to local contrast first. `trusted` [H, W]
    says which pixels of the rendering may be used; `image` [H, W, 3] uint8 is brought to its size.
    """
    photo, rendered = _contrasts(image, view)
    corners = _corners(rendered, trusted, count)
    if corners is None:
        return Correspondences(view.depth.new_zeros(0, 2), view.depth.new_zeros(0, 2))
    there, found = _lucas_kanade(rendered, photo, corners, corners, _LEVELS)
    back, returned = _lucas_kanade(photo, rendered, there, there, _LEVELS)
    good = found & returned
    good &= np.linalg.norm(back - corners, axis=2).ravel() < _MAX_RETURN_PX
    good &= np.linalg.norm(there - corners, axis=2).ravel() < window_px
    return _pairs(there[good], corners[good], view)


def follow(
    image: np.ndarray, view: Rendering, trusted: Tensor, photo_from_view: Tensor, window_px: float, count: int
) -> Correspondences:
    """Corners of the rendering in the photo, no further than the window from where a pose [4, 4] puts them.

    For poses that are right to a pixel: no pyramid, and no way back, which would take as long again.
    """
    photo, rendered = _contrasts(image, view)
    corners = _corners(rendered, trusted, count)
    if corners is None:
        return Correspondences(view.depth.new_zeros(0, 2), view.depth.new_zeros(0, 2))
    points = lift(view, torch.from_numpy(corners[:, 0]).to(view.depth) + 0.5).double().cpu()
    moved = points @ photo_from_view[:3, :3].T + photo_from_view[:3, 3]
    expected = (view.camera.project(moved) - 0.5).float().numpy()[:, None]
    there, found = _lucas_kanade(rendered, photo, corners, expected, 0)
    good = found & (moved[:, 2] > 0).numpy()
    good &= np.linalg.norm(there - expected, axis=2).ravel() < window_px
    return _pairs(there[good], corners[good], view)


def _contrasts(image: np.ndarray, view: Rendering) -> tuple[np.ndarray, np.ndarray]:
    """Photo and rendering as 8-bit images of local contrast, of the rendering's size."""
    greys = photo_grey(image, view.camera), view.grey.cpu().numpy()
    photo, rendered = (_eight_bits(normalised_contrast(grey, _CONTRAST_SIGMA)) for grey in greys)
    return photo, rendered


def _corners(rendered: np.ndarray, trusted: Tensor, count: int) -> np.ndarray | None:
    """Corners [N, 1, 2] among the trusted pixels, the strongest first; None where all is flat."""
    mask = trusted.cpu().numpy().astype(np.uint8)
    corners = cv2.goodFeaturesToTrack(rendered, count, _CORNER_QUALITY, _CORNER_SPACING, mask=mask)
    return None if corners is None else corners.reshape(-1, 1, 2)


def _pairs(photo: np.ndarray, rendered: np.ndarray, view: Rendering) -> Correspondences:
    """OpenCV's pixels [N, 1, 2], whose first centre is at (0, 0), as ours, where it is at (0.5, 0.5)."""
    there, here = (torch.from_numpy(pixels[:, 0]).to(view.depth) + 0.5 for pixels in (photo, rendered))
    return Correspondences(there, here)


def _lucas_kanade(
    a: np.ndarray, b: np.ndarray, start: np.ndarray, guess: np.ndarray, levels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Positions [N, 1, 2] in `b`, near `guess`, of what is at `start` in `a`, and which were found [N]."""
    end, found, _ = cv2.calcOpticalFlowPyrLK(
        a,
        b,
        start,
        guess.copy(),
        winSize=(_WINDOW, _WINDOW),
        maxLevel=levels,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    return end, found.ravel() > 0


def normalised_contrast(grey: np.ndarray, sigma: float) -> np.ndarray:
    """Grey [H, W] in [0, 1] -> float32 of local mean 0 and local deviation 1, whatever the exposure was.

    Shading, vignetting and some of the map's blur go with it: what is left is where the edges are. `sigma`
    pixels is the size of the neighbourhood.
    """
    mean = cv2.GaussianBlur(grey, (0, 0), sigma)
    variance = cv2.GaussianBlur(grey * grey, (0, 0), sigma) - mean * mean
    deviation = np.sqrt(np.maximum(variance, 0)) + _FLAT  # in the flat, noise is not blown up
    return (grey - mean) / deviation


def _eight_bits(contrast: np.ndarray) -> np.ndarray:
    """Contrast [H, W] -> uint8, as OpenCV's tracker wants it."""
    return np.clip(128 + 48 * contrast, 0, 255).astype(np.uint8)


def match_keypoints(
    photo: Keypoints, rendering: Keypoints, window_px: float, min_cosine: float
) -> Correspondences:
    """Mutual nearest neighbours among keypoints no further apart than the window."""
    cosine = _windowed(photo.descriptors @ rendering.descriptors.T, photo.xy, rendering.xy, window_px)
    row, column = _mutual(cosine, min_cosine)
    return Correspondences(photo.xy[row], rendering.xy[column])


def match_map(
    photo: Keypoints, features: Tensor, size: tuple[int, int], window_px: float, min_cosine: float
) -> Correspondences:
    """Mutual nearest neighbours between keypoints and cells of a rendered feature map [D, h, w].

    The partner is found between cells: at the vertex of the parabola through the cosines of the best cell and
    its neighbours. `size` is (width, height) of the rendering in pixels.
    """
    _, height, width = features.shape
    cell = features.new_tensor([size[0] / width, size[1] / height])
    cells = F.normalize(features.flatten(1).T, dim=1)
    index = torch.arange(height * width, device=features.device)
    centre = (torch.stack([index % width, index // width], 1) + 0.5) * cell
    raw = photo.descriptors @ cells.T
    row, best = _mutual(_windowed(raw, photo.xy, centre, window_px), min_cosine)
    x, y = best % width, best // width
    inner = (x > 0) & (y > 0) & (x < width - 1) & (y < height - 1)
    row, best = row[inner], best[inner]
    beside = torch.tensor([[-1, 0, 1, -width, width]], device=features.device)
    at = raw[row[:, None], best[:, None] + beside]
    offset = torch.stack([_vertex(at[:, 0], at[:, 1], at[:, 2]), _vertex(at[:, 3], at[:, 1], at[:, 4])], 1)
    return Correspondences(photo.xy[row], centre[best] + offset * cell)


def _vertex(before: Tensor, at: Tensor, after: Tensor) -> Tensor:
    """Where the parabola through values at -1, 0, 1 is highest, within half a step."""
    bend = (2 * at - before - after).clamp(min=1e-6)
    return (0.5 * (after - before) / bend).clamp(-0.5, 0.5)


def _windowed(cosine: Tensor, a: Tensor, b: Tensor, window_px: float) -> Tensor:
    """`cosine` [N, M] where positions a [N, 2] and b [M, 2] are within the window of each other, else -1."""
    return torch.where(torch.cdist(a, b) < window_px, cosine, -1.0)


def _mutual(cosine: Tensor, min_cosine: float) -> tuple[Tensor, Tensor]:
    """Rows and columns of `cosine` [N, M] that prefer each other, above the least cosine."""
    if not cosine.numel():  # no keypoints: torch has no maximum of nothing
        none = torch.zeros(0, dtype=torch.int64, device=cosine.device)
        return none, none
    best, column = cosine.max(1)
    row = torch.arange(len(cosine), device=cosine.device)
    keep = (cosine.argmax(0)[column] == row) & (best > min_cosine)
    return row[keep], column[keep]
