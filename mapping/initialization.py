"""Initial Gaussians: from a sparse model, measured depth, triangulated tracks, or random."""

import math
import sys
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from gsplatloc.mapping.options import InitializationOptions
from gsplatloc.mapping.triangulation import Tracks
from gsplatloc.scene.cameras import Scene, SparsePoints, View
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.harmonics import Y_00
from gsplatloc.utils import se3
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError

_NEIGHBOURS = 3  # whose mean squared distance is a Gaussian's initial variance (Kerbl et al. 2023)
_KDTREE_SINGLE = 4  # FLANN's exact k-d tree: not exported by cv2
_DEPTH_SAMPLES = 4_000_000  # depth pixels used, over all views
_RANDOM_POINTS = 20_000  # spread over the views' frustums where no other points are known
_MAX_DEPTH_STEP = 0.05  # relative, to a neighbouring pixel; more is an occlusion edge, where depths mix

_SEEN_VIEWS = 100  # in which the scene's points are looked for
_LEAST_SEEN = 0.1  # share of the points
_MANY_POINTS = 100  # fewer decide nothing: tracks are more


def scene_extent(views: Sequence[View]) -> float:
    """The scene's size in metres: 1.1 times the largest distance of a camera from their mean.

    The unit of position learning rates and of densification (Kerbl et al. 2023). One camera, or several at
    one place, give 1.
    """
    centers = se3.camera_center(torch.stack([view.cam_from_world for view in views]))
    radius = torch.linalg.norm(centers - centers.mean(0), dim=1).max().item()
    return 1.1 * radius if radius > 1e-6 else 1.0


def initial_points(
    scene: Scene,
    views: Sequence[View],
    options: InitializationOptions,
    make_tracks: Callable[[], Tracks],
    generator: torch.Generator,
) -> SparsePoints:
    """The points to start from. Without depth, those of the sparse model or the tracks, whichever are more.

    Raises GSplatLocError if the scene lacks the requested kind; `auto` always finds some.
    """
    kind = options.init
    if kind == "points" and not scene.points:
        raise GSplatLocError("expected sparse points for --init points, found none: use --init auto")
    has_depth = any(view.load_depth for view in views)
    if kind == "depth" and not has_depth:
        raise GSplatLocError("expected depth images for --init depth, found none: use --init auto")
    clouds = []
    if kind in ("auto", "depth") and has_depth:
        clouds.append(points_from_depth(views))
    if kind in ("auto", "points") and scene.points is not None:
        check = kind == "auto" and len(scene.points) >= _MANY_POINTS
        clouds.append(_seen_points(scene.points, views) if check else scene.points)
    found = _merged(clouds)
    if kind == "tracks" or (kind == "auto" and not has_depth):
        tracks = make_tracks()  # landmarks need them, too
        if kind == "tracks" or len(tracks) > len(found):
            found = SparsePoints(tracks.positions, tracks.colors)
    if len(found) == 0:
        found = random_points(views, min(_RANDOM_POINTS, options.init_max_points), generator)
    return thinned(found, options.init_max_points)


def _seen_points(points: SparsePoints, views: Sequence[View]) -> SparsePoints:
    """The points of a scene; none, with a warning, if the views see hardly any of them."""
    seen = np.zeros(len(points), bool)
    for view in views[:: max(1, math.ceil(len(views) / _SEEN_VIEWS))]:
        local = se3.transform(view.cam_from_world, torch.from_numpy(points.positions))
        inside = (local[:, 2:] > 0) & (local[:, :2] / local[:, 2:] * view.camera.fx).abs().lt(
            max(view.camera.width, view.camera.height)
        )
        seen |= inside.all(1).numpy()
    if seen.mean() >= _LEAST_SEEN:
        return points
    log(
        f"warning: the images see {seen.sum()} of the {len(points)} points of the scene's point cloud, which"
        " is left out: its coordinates seem to be other ones than those of the poses",
        stream=sys.stderr,
    )
    return SparsePoints(points.positions[:0], points.colors[:0])


def gaussians_from_points(
    points: SparsePoints, sh_degree: int, features: Tensor, opacity: float = 0.1, scale: float = 1.0
) -> Gaussians:
    """Isotropic Gaussians at points with descriptors `features` [N, C].

    Their standard deviation is `scale` times the distance to the three nearest neighbours.
    """
    positions = torch.from_numpy(points.positions).float()
    count = len(positions)
    sh = torch.zeros(count, (sh_degree + 1) ** 2, 3)
    sh[:, 0] = (torch.from_numpy(points.colors).float() / 255 - 0.5) / Y_00
    quaternions = torch.zeros(count, 4)
    quaternions[:, 0] = 1
    sizes = neighbour_distances(points.positions) * scale
    opacities = torch.full((count,), opacity)
    log_scales = torch.from_numpy(sizes).float().log()[:, None].repeat(1, 3)
    return Gaussians(positions, quaternions, log_scales, torch.logit(opacities), sh, features)


def neighbour_distances(positions: np.ndarray) -> np.ndarray:
    """Root of the mean squared distance [N] in metres of each position [N, 3] to its nearest neighbours."""
    if len(positions) <= 1:
        return np.ones(len(positions))
    points = np.ascontiguousarray(positions, np.float32)
    index = {"algorithm": _KDTREE_SINGLE, "leaf_max_size": 10}
    tree = cv2.flann_Index(points, index)  # type: ignore[attr-defined]  # missing from cv2's stubs
    _, squared = tree.knnSearch(points, min(_NEIGHBOURS + 1, len(points)), params={})
    return np.sqrt(squared[:, 1:].mean(1).clip(1e-12)).astype(np.float64)


def points_from_depth(views: Sequence[View]) -> SparsePoints:
    """Coloured points at the depth pixels of the views, subsampled evenly; occlusion edges are left out."""
    with_depth = [view for view in views if view.load_depth is not None]
    pixels = sum(view.camera.width * view.camera.height for view in with_depth)
    step = max(2, math.ceil(math.sqrt(pixels / _DEPTH_SAMPLES)))
    return _merged([_back_projected(view, step) for view in with_depth])


def random_points(views: Sequence[View], count: int, generator: torch.Generator) -> SparsePoints:
    """Grey points spread evenly in depth over the views' frustums, from a tenth to three scene extents."""
    extent = scene_extent(views)
    per_view = max(1, math.ceil(count / len(views)))
    clouds = []
    for view in views:
        camera = view.camera
        draws = torch.rand(per_view, 3, generator=generator, dtype=torch.float64)
        depth = extent * (0.1 + 2.9 * draws[:, 2])
        pixels = draws[:, :2] * torch.tensor([camera.width, camera.height], dtype=torch.float64)
        clouds.append(se3.transform(se3.inverse(view.cam_from_world), camera.unproject(pixels, depth)))
    positions = torch.cat(clouds).numpy()[:count]
    return SparsePoints(positions, np.full((len(positions), 3), 128, np.uint8))


def thinned(points: SparsePoints, max_points: int) -> SparsePoints:
    """Points averaged over the cells of the finest grid that leaves at most `max_points`."""
    if len(points) <= max_points:
        return points
    origin = points.positions.min(0)
    span = float(np.linalg.norm(points.positions.max(0) - origin))
    cell = span / 1024
    while True:
        labels = _cell_labels(points.positions - origin, cell)
        if labels.max() < max_points:
            return _averaged(points, labels)
        # On a surface the number of occupied cells falls with the square of their size.
        cell *= max(1.02, math.sqrt((labels.max() + 1) / max_points))


def _cell_labels(offsets: np.ndarray, cell: float) -> np.ndarray:
    """Index [N] of the occupied cell of each offset [N, 3]."""
    index = np.floor(offsets / cell).astype(np.int64)
    size = index.max(0) + 1
    keys = (index[:, 0] * size[1] + index[:, 1]) * size[2] + index[:, 2]
    labels: np.ndarray = np.unique(keys, return_inverse=True)[1]
    return labels


def _averaged(points: SparsePoints, labels: np.ndarray) -> SparsePoints:
    counts = np.bincount(labels)[:, None]

    def mean(values: np.ndarray) -> np.ndarray:
        sums = [np.bincount(labels, values[:, axis].astype(np.float64)) for axis in range(3)]
        return np.stack(sums, 1) / counts

    return SparsePoints(mean(points.positions), np.rint(mean(points.colors)).astype(np.uint8))


def _back_projected(view: View, step: int) -> SparsePoints:
    """Every `step`-th depth pixel in both directions, in the world."""
    assert view.load_depth is not None
    depth, image, camera = view.load_depth(), view.load_image(), view.camera
    rows, columns = np.mgrid[step // 2 : camera.height : step, step // 2 : camera.width : step]
    rows, columns = rows.ravel(), columns.ravel()
    # A 3x3 window with a large depth step covers two surfaces, whose depths a sensor mixes there.
    window = np.ones((3, 3), np.uint8)
    far, near = cv2.dilate(depth, window), cv2.erode(depth, window)
    smooth = (near > 0) & (far - near < _MAX_DEPTH_STEP * depth)
    keep = smooth[rows, columns]
    rows, columns = rows[keep], columns[keep]
    pixels = torch.from_numpy(np.stack([columns, rows], 1) + 0.5)
    positions = camera.unproject(pixels, torch.from_numpy(depth[rows, columns]).double())
    positions = se3.transform(se3.inverse(view.cam_from_world), positions)
    return SparsePoints(positions.numpy(), image[rows, columns])


def _merged(clouds: Sequence[SparsePoints]) -> SparsePoints:
    positions = [np.zeros((0, 3)), *(cloud.positions for cloud in clouds)]
    colors = [np.zeros((0, 3), np.uint8), *(cloud.colors for cloud in clouds)]
    return SparsePoints(np.concatenate(positions), np.concatenate(colors))
