"""Examples that the network learns from: what is around a point, and the descriptor that XFeat gives it.

Two kinds, neither of which needs a person's labels:

- From photographs alone: the cells around a keypoint are averages of the photograph's pixels.
- From maps: the cells around a Gaussian are drawn from those next to it, as they are for localization, seen
  from a camera beside that of a mapping image. The descriptor is that of the keypoint in the mapping image at
  the Gaussian's projection.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor

from gsplatloc.localization.alignment.rendered_view import shrunk
from gsplatloc.localization.features import Extractor, Keypoints
from gsplatloc.localization.splat_descriptors.describe import MAX_SIDE, Anchors, visible_anchors
from gsplatloc.localization.splat_descriptors.neighbourhood import Grid, draw_all, project
from gsplatloc.localization.splat_descriptors.network import GRIDS
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import View
from gsplatloc.scene.image_files import image_files
from gsplatloc.scene.images import decode_upright, resize_rgb
from gsplatloc.scene.map_config import read_config
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils import se3
from gsplatloc.utils.console import progress
from gsplatloc.utils.errors import GSplatLocError

T = TypeVar("T")
_NEAR_PX, _FAR_PX = 3.0, 6.0  # of a keypoint: an example of one; and of none
_FEWEST = 50  # examples of an image; with fewer it is left out
# Standard deviations by which examples of photographs differ from them: a Gaussian is beside its keypoint,
# another camera is nearer and turned, and a splat is less sharp.
_OFFSET_PX, _TURN_RAD, _LOG_SCALE = 1.5, 0.1, 0.12
_BLUR_PX = (0.3, 2.0)
_CELL_BLUR = 0.4  # of the side of a cell: averages pixels over it
# Likewise of the cameras of maps: metres per metre of median depth, and radians.
_STEP, _TILT = 0.05, 0.04


@dataclass(frozen=True)
class Examples:
    """N examples of one place."""

    drawn: Tensor  # [N, grids, 3, side, side] float16, as `neighbourhood.draw_all` returns it
    descriptors: Tensor  # [N, 64] float16, of the keypoint there; meaningless where there is none
    keypoint: Tensor  # [N] bool

    def __len__(self) -> int:
        return len(self.drawn)


def joined(parts: Sequence[Examples], source: Path) -> Examples:
    """The examples of several images of one place."""
    if not parts:
        raise GSplatLocError(f"expected images with keypoints for {source}, found none: leave it out")
    columns = zip(*((part.drawn, part.descriptors, part.keypoint) for part in parts))
    return Examples(*(torch.cat(column) for column in columns))


def of_photographs(
    folder: Path, extractor: Extractor, images: int, per_image: int, seed: int, quiet: bool = False
) -> Examples:
    """Examples of up to `images` photographs in a folder and those below it, evenly chosen by name."""
    files = image_files(folder)
    rng = np.random.default_rng(seed)
    parts = []
    for file in progress(_thinned(files, images), desc=folder.name, quiet=quiet):
        image = _small(decode_upright(file))
        keypoints = extractor.extract(image).keypoints.select(slice(0, per_image))
        if len(keypoints) >= _FEWEST:
            parts.append(_of_photograph(image, keypoints, rng))
    return joined(parts, folder)


def _of_photograph(image: np.ndarray, keypoints: Keypoints, rng: np.random.Generator) -> Examples:
    count = len(keypoints)
    grey = image.mean(2, dtype=np.float32) / 255
    grey = cv2.GaussianBlur(grey, (0, 0), rng.uniform(*_BLUR_PX))
    xy = keypoints.xy.cpu().numpy() + rng.normal(0, _OFFSET_PX, (count, 2))
    angle, scale = rng.normal(0, _TURN_RAD, count), np.exp(rng.normal(0, _LOG_SCALE, count))
    turns = scale[:, None, None] * np.stack(
        [np.stack([np.cos(angle), -np.sin(angle)], 1), np.stack([np.sin(angle), np.cos(angle)], 1)], 1
    )
    drawn = [_averages(grey, xy, turns, grid) for grid in GRIDS]
    keypoint = torch.ones(count, dtype=torch.bool)
    return Examples(torch.stack(drawn, 1).half(), keypoints.descriptors.cpu().half(), keypoint)


def _averages(grey: np.ndarray, xy: np.ndarray, turns: np.ndarray, grid: Grid) -> Tensor:
    """[N, 3, side, side]: averages of the pixels of cells around `xy` [N, 2], turned by `turns` [N, 2, 2]."""
    averaged = cv2.GaussianBlur(grey, (0, 0), _CELL_BLUR * grid.cell_px)
    places = xy[:, None] + grid.centres().numpy() @ turns.transpose(0, 2, 1) - 0.5
    x, y = places.astype(np.float32).transpose(2, 0, 1)
    values = cv2.remap(averaged, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=-1)
    inside = values >= 0
    channels = np.stack([values * inside, inside, np.zeros_like(values)], 1)
    return torch.from_numpy(channels.astype(np.float32)).unflatten(2, (grid.side, grid.side))


def of_map(
    folder: Path, extractor: Extractor, images: int, per_image: int, seed: int, quiet: bool = False
) -> Examples:
    """Examples of up to `images` mapping images of a map, whose scene must still be where it was."""
    splat_map, config = SplatMap(folder, device=extractor.device), read_config(folder)
    views = _thinned(read_scene(Path(config.source_path), config.scene).train, images)
    generator = torch.Generator().manual_seed(seed)
    parts = [
        found
        for view in progress(views, desc=folder.name, quiet=quiet)
        if (found := _of_view(splat_map, view, extractor, per_image, generator)) is not None
    ]
    return joined(parts, folder)


@torch.no_grad()
def _of_view(
    splat_map: SplatMap, view: View, extractor: Extractor, count: int, generator: torch.Generator
) -> Examples | None:
    gaussians, camera = splat_map.gaussians, shrunk(view.camera, MAX_SIDE)
    image = resize_rgb(view.load_image(), camera.width, camera.height)
    keypoints = extractor.extract(image).keypoints
    pose = splat_map.frame.pose_in_map(view.cam_from_world)
    anchors = visible_anchors(gaussians, camera, pose)
    if len(anchors) < _FEWEST or not len(keypoints):
        return None
    distance, nearest = torch.cdist(anchors.xy, keypoints.xy).min(1)
    some = [
        _drawn(distance < _NEAR_PX, count, generator),
        _drawn(distance > _FAR_PX, count // 4, generator),
    ]
    chosen = torch.cat(some)
    beside = _beside(pose, anchors, generator)
    seen = project(gaussians, camera, beside)
    local = gaussians.means[anchors.index[chosen]] @ beside[:3, :3].T.to(gaussians.means)
    local = local + beside[:3, 3].to(local)
    drawn = draw_all(seen, camera.project(local), local[:, 2], GRIDS)
    return Examples(
        drawn.half().cpu(),
        keypoints.descriptors[nearest[chosen]].half().cpu(),
        (distance[chosen] < _NEAR_PX).cpu(),
    )


def _beside(pose: Tensor, anchors: Anchors, generator: torch.Generator) -> Tensor:
    """A pose [4, 4] near `pose`."""
    step = _STEP * anchors.z.median().item() * torch.randn(3, generator=generator)
    turn = _TILT * torch.randn(3, generator=generator)
    return se3.se3_exp(torch.cat([step, turn]).double()) @ pose


def _drawn(mask: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Up to `count` indices of a mask, at random."""
    index = mask.nonzero()[:, 0]
    return index[torch.randperm(len(index), generator=generator)[:count].to(index.device)]


def _thinned(items: Sequence[T], most: int) -> Sequence[T]:
    """Up to `most` of the items, evenly chosen."""
    return items[:: max(1, -(-len(items) // most))]


def _small(image: np.ndarray) -> np.ndarray:
    scale = min(1.0, MAX_SIDE / max(image.shape[:2]))
    return resize_rgb(image, round(scale * image.shape[1]), round(scale * image.shape[0]))
