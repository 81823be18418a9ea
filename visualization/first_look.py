"""A first look at a new map: photos beside the map's renderings, and the map from above."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from gsplatloc.gaussian_renderer import render
from gsplatloc.scene.cameras import PosedCamera, View
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils.io import write_bytes
from gsplatloc.visualization import images
from gsplatloc.visualization.images import RGB, Image
from gsplatloc.visualization.pictures import draw_label
from gsplatloc.visualization.plan import Cameras, draw_plan

_ROWS = 3  # photos
_PANEL = 480  # pixels, width of each of the three panels of a row
_GUTTER = 6  # pixels
_ORANGE: RGB = (255, 176, 59)


def save_first_look(
    path: Path, gaussians: Gaussians, cameras: Sequence[PosedCamera], views: Sequence[View]
) -> None:
    """Write a .png: photo, rendering and depth of some views; below, the map from above with all `cameras`.

    `cameras` are those of the map, in its coordinates; `views` are the photos, paired with them by name.
    """
    photos = {view.name: view for view in views}
    chosen = np.linspace(0, len(cameras) - 1, _ROWS + 2).round().astype(int)[1:-1]
    rows = [_row(gaussians, cameras[index], photos[cameras[index].name]) for index in chosen]
    width = rows[0].shape[1]
    poses = torch.stack([posed.cam_from_world for posed in cameras])
    plan = draw_plan(gaussians, [Cameras(poses, _ORANGE)], width)
    draw_label(plan, "the map from above, with the cameras of its photos")
    plan = plan[:, :width]
    left = (width - plan.shape[1]) // 2  # of a place that is deeper than wide
    plan = np.pad(plan, ((0, 0), (left, width - plan.shape[1] - left), (0, 0)), constant_values=255)
    write_bytes(path, images.encode_png(images.stacked([*rows, plan], _GUTTER)))


@torch.no_grad()
def _row(gaussians: Gaussians, posed: PosedCamera, view: View) -> Image:
    scale = _PANEL / posed.camera.width
    camera = posed.camera.resized(_PANEL, max(1, round(posed.camera.height * scale)))
    rendered = render(gaussians, camera, posed.cam_from_world)
    panels = {
        view.name: images.resize(view.load_image(), camera.width, camera.height),
        "map": images.to_image(rendered.rgb),
        "depth": images.colorize_depth(rendered.depth.cpu().numpy()),
    }
    for label, panel in panels.items():
        draw_label(panel, label)
    return images.side_by_side([*panels.values()], _GUTTER)
