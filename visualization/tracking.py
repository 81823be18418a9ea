"""Pictures of a tracked sequence: the trajectory as a plot, and the map beside an image of the sensor."""

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path

import numpy as np
import torch

from gsplatloc.gaussian_renderer import render
from gsplatloc.localization.alignment.rendered_view import shrunk
from gsplatloc.scene.cameras import View
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.images import resize_rgb
from gsplatloc.scene.trajectory import Trajectory
from gsplatloc.tracking.evaluation import aligned, matched
from gsplatloc.utils import se3
from gsplatloc.utils.io import atomic_path, write_bytes
from gsplatloc.visualization import images
from gsplatloc.visualization.plots import PALETTE

_TRUTH = "#8d96a0"
_PANEL = 480  # pixels, the longer side of a panel
_GUTTER = 6  # pixels between panels


def save_trajectory_plot(
    path: Path | str, estimates: Mapping[str, Trajectory], truth: Trajectory | None
) -> None:
    """Plot camera centres in the plane of largest variance, estimates aligned to the ground truth."""
    from matplotlib.figure import Figure  # here, because its import takes long

    shown = {
        name: estimate if truth is None else aligned(*matched(estimate, truth))
        for name, estimate in estimates.items()
    }
    paths = {name: _centers(estimate) for name, estimate in shown.items()}
    reference = next(iter(paths.values())) if truth is None else _centers(truth)
    origin = reference.mean(0)
    axes_of_spread = np.linalg.svd(reference - origin, full_matrices=False)[2][:2]
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.add_subplot()
    if truth is not None:
        axes.plot(
            *(axes_of_spread @ (reference - origin).T), color=_TRUTH, lw=3, alpha=0.6, label="ground truth"
        )
    for (name, centers), color in zip(paths.items(), cycle(PALETTE)):
        axes.plot(*(axes_of_spread @ (centers - origin).T), color=color, lw=1.2, label=name)
    axes.set_aspect("equal", "datalim")
    axes.set_xlabel("metres")
    axes.set_ylabel("metres")
    axes.grid(alpha=0.2)
    axes.legend(frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def save_tracking_picture(path: Path | str, gaussians: Gaussians, view: View) -> None:
    """Four panels: image and depth of the sensor above, renderings at the estimated pose below."""
    if view.load_depth is None:
        raise ValueError(f"{view.name} has no depth")
    camera = shrunk(view.camera, _PANEL)
    shown = render(gaussians, camera, view.cam_from_world)
    stride = max(1, round(view.camera.width / camera.width))
    depth = view.load_depth()[::stride, ::stride]
    known = depth[depth > 0]
    near, far = (float(value) for value in np.percentile(known, (1, 99))) if len(known) else (0.5, 5.0)
    panels = [
        resize_rgb(view.load_image(), camera.width, camera.height),
        resize_rgb(images.colorize_depth(depth, near, far), camera.width, camera.height),
        images.to_image(shown.rgb),
        images.colorize_depth(shown.depth.detach().cpu().numpy(), near, far),
    ]
    rows = [images.side_by_side(panels[start : start + 2], _GUTTER) for start in (0, 2)]
    write_bytes(path, images.encode_png(images.stacked(rows, _GUTTER)))


def _centers(trajectory: Trajectory) -> np.ndarray:
    centers: torch.Tensor = se3.camera_center(trajectory.cam_from_world)
    return centers.numpy()
