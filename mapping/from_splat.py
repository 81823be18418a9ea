"""A map of a splat without photographs: the splat is rendered where a camera could be, and mapped from that.

Renderings replace mapping images. Their poses are exact, so keypoints are matched and triangulated as in any
other map, and rendered depth then verifies every landmark: a point that the splat does not show at its depth
(floaters, reflections, wrong matches) is dropped. The Gaussians stay as they are.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.gaussian_renderer.device import rendering_device
from gsplatloc.localization.alignment.exposure import FILE_NAME as EXPOSURE_NAME
from gsplatloc.localization.alignment.rendered_view import shrunk, to_image
from gsplatloc.localization.features import Keypoints, make_extractor
from gsplatloc.localization.initial.view_index import FILE_NAME as INDEX_NAME
from gsplatloc.localization.initial.view_index import cached_index
from gsplatloc.localization.initial.virtual_views import virtual_views
from gsplatloc.localization.landmarks.file import FILE_NAME as LANDMARKS_NAME
from gsplatloc.localization.landmarks.file import Landmarks, save_landmarks
from gsplatloc.mapping.feature_cache import CachedKeypoints
from gsplatloc.mapping.options import (
    DescriptorOptions,
    FromSplatOptions,
    MappingOptions,
    OutputOptions,
    VirtualCameraOptions,
)
from gsplatloc.mapping.train import Mapper
from gsplatloc.mapping.triangulation import MIN_LENGTH, Tracks, triangulate
from gsplatloc.mapping.virtual_cameras import find_cameras
from gsplatloc.scene.cameras import PosedCamera, Scene, View
from gsplatloc.scene.export import save_gaussians, saved_iterations
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.map_config import MapConfig, read_cameras, write_cameras, write_config
from gsplatloc.scene.map_frame import MapFrame, local_origin
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError

PRESET = "splat"  # of such maps in config.json
_MIN_ALPHA = 0.9  # a keypoint on something less opaque is left out
_MAX_DEPTH_ERROR = 0.03  # relative difference between a landmark's depth and the rendered one
_MAX_SIDE = 1280  # pixels of renderings at given cameras
_MIN_LANDMARKS = 100  # fewer are no map


def map_splat(
    gaussians: Gaussians,
    output: Path | str,
    source: Path,
    cameras: Sequence[PosedCamera] | None,
    options: FromSplatOptions | None = None,
    frame: MapFrame | None = None,
    virtual: VirtualCameraOptions | None = None,
) -> int:
    """Write the map of a splat that was read from `source`; returns the number of landmarks.

    `cameras` are poses from which the splat looks right: those of its photographs. None: half of the views
    are found in the splat by the options `virtual`, as far as there are any. Splat and cameras are in the
    coordinates `frame`. Without it they are in those of the world, with means in double precision where
    these are far away, and are moved near the origin. Raises `GSplatLocError` if too little of the splat can
    be seen, or if `output` holds a map already.
    """
    options, output, start = options or FromSplatOptions(), Path(output), time.perf_counter()
    if saved_iterations(output):
        raise GSplatLocError(
            f"expected a folder without a map, found one in {output}: remove it, or pass another"
        )
    if len(gaussians) < _MIN_LANDMARKS:
        raise GSplatLocError(
            f"expected a splat of a place in {source}, found {len(gaussians)} Gaussians: pass another file"
        )
    if cameras is None:
        cameras = find_cameras(gaussians, (options.views + 1) // 2, virtual, options.quiet)
    if frame is None:
        frame = MapFrame(local_origin(torch.stack([view.cam_from_world for view in cameras])))
        gaussians, cameras = moved(gaussians, cameras, frame)
    device = rendering_device(options.device, quiet=options.quiet)
    extractor = make_extractor(options.extractor, device, options.top_k)
    gaussians = replace(gaussians, means=gaussians.means.float()).to(device)
    views = _rendered_views(gaussians, cameras, options.views)
    settings = MappingOptions(
        descriptors=DescriptorOptions(descriptors="aggregated", extractor=options.extractor),
        output=OutputOptions(quiet=options.quiet),
    )
    scene = Scene(source.stem, source.parent, views, [])
    mapper = Mapper(scene, output, settings, extractor, device, frame=MapFrame())  # the views are in it
    mapper.cache.prepare(views, options.quiet)
    mapper.tracks = _verified_tracks(gaussians, views, CachedKeypoints(mapper.cache, views))
    landmarks = mapper.landmarks()
    if len(landmarks) < _MIN_LANDMARKS:
        raise GSplatLocError(
            f"expected a splat with texture in {source}, found {len(landmarks)} landmarks in {len(views)}"
            " renderings: check that --cameras belongs to it, or the --up direction"
        )
    config = MapConfig(
        str(source), preset=PRESET, extractor=extractor.version, top_k=options.top_k, frame=frame
    )
    _write_map(mapper, config, landmarks, gaussians)
    seconds = time.perf_counter() - start
    log(f"map        {len(landmarks)} landmarks of {len(views)} renderings, {seconds:.0f} s", options.quiet)
    return len(landmarks)


def _write_map(mapper: Mapper, config: MapConfig, landmarks: Landmarks, gaussians: Gaussians) -> None:
    """Write every file of the map, and the index of its views."""
    output = mapper.output
    write_config(output, config)
    write_cameras(output, mapper.scene.train)
    (output / EXPOSURE_NAME).unlink(missing_ok=True)  # of an earlier map
    save_landmarks(landmarks, output / LANDMARKS_NAME)
    save_gaussians(output, 0, mapper.final_gaussians(gaussians))
    # The views as they are read again: the index is recognised by a hash of their poses.
    cached_index(output / INDEX_NAME, gaussians, read_cameras(output), mapper.cache.extractor)


def moved(
    gaussians: Gaussians, cameras: Sequence[PosedCamera], frame: MapFrame
) -> tuple[Gaussians, list[PosedCamera]]:
    """A splat and its cameras in the coordinates of `frame`, which has the unit of the world."""
    means = torch.from_numpy(frame.points_in_map(gaussians.means.double().cpu().numpy()))
    posed = [replace(view, cam_from_world=frame.pose_in_map(view.cam_from_world)) for view in cameras]
    return replace(gaussians, means=means.to(gaussians.sh)), posed


def _rendered_views(gaussians: Gaussians, cameras: Sequence[PosedCamera], count: int) -> list[View]:
    """So many views: cameras evenly over all of them, and virtual ones where these are too few."""
    given = [replace(view, camera=shrunk(view.camera, _MAX_SIDE)) for view in cameras]
    posed = given[:: -(-len(given) // count)]
    posed += virtual_views(gaussians, posed, count - len(posed))
    return [_rendered_view(gaussians, view, number) for number, view in enumerate(posed)]


def _rendered_view(gaussians: Gaussians, posed: PosedCamera, number: int) -> View:
    """A view whose image is rendered when it is first asked for, and kept."""

    @cache
    def image() -> np.ndarray:
        with torch.no_grad():
            return to_image(render(gaussians, posed.camera, posed.cam_from_world, RenderOptions()).rgb)

    name = f"rendered/{number:04d}.png"
    return View(name, posed.camera, posed.cam_from_world.double(), Path(name), image)


def _verified_tracks(gaussians: Gaussians, views: Sequence[View], keypoints: Sequence[Keypoints]) -> Tracks:
    """Tracks of keypoints on opaque surfaces whose depth is the rendered one in at least three views."""
    depths = [_depth_at(gaussians, view, found) for view, found in zip(views, keypoints)]
    visible = [torch.nonzero(depth > 0)[:, 0] for depth in depths]
    tracks = triangulate(
        views, [found.select(index) for found, index in zip(keypoints, visible)], gaussians.device
    )
    among_all = [visible[v][k] for v, k in zip(tracks.observed_view, tracks.observed_keypoint)]
    tracks = replace(tracks, observed_keypoint=np.array(among_all, np.int64))
    poses = torch.stack([view.cam_from_world for view in views])
    track, view = torch.from_numpy(tracks.observed_track), torch.from_numpy(tracks.observed_view)
    rows = poses[view, 2]  # depth z = R_3 x + t_3
    z = (rows[:, :3] * torch.from_numpy(tracks.positions)[track]).sum(1) + rows[:, 3]
    seen = torch.tensor(
        [float(depths[v][k]) for v, k in zip(view.tolist(), tracks.observed_keypoint.tolist())],
        dtype=torch.float64,
    )
    agrees = ((seen - z).abs() < _MAX_DEPTH_ERROR * z).double()
    supported = torch.zeros(len(tracks), dtype=torch.float64).index_add_(0, track, agrees)
    return _selected(tracks, (supported >= MIN_LENGTH).numpy())


@torch.no_grad()
def _depth_at(gaussians: Gaussians, view: View, keypoints: Keypoints) -> torch.Tensor:
    """Rendered depth [K] at keypoints; 0 where the splat is not opaque."""
    rendered = render(gaussians, view.camera, view.cam_from_world, RenderOptions())
    column, row = keypoints.xy.long().T
    column, row = column.clamp(0, view.camera.width - 1), row.clamp(0, view.camera.height - 1)
    depth = rendered.depth * (rendered.alpha >= _MIN_ALPHA)
    return depth.cpu()[row, column]


def _selected(tracks: Tracks, kept: np.ndarray) -> Tracks:
    """The tracks in the mask `kept` [M], and their observations."""
    rank = np.cumsum(kept) - 1
    observed = kept[tracks.observed_track]
    return replace(
        tracks,
        positions=tracks.positions[kept],
        colors=tracks.colors[kept],
        descriptors=tracks.descriptors[torch.from_numpy(kept)],
        lengths=tracks.lengths[kept],
        errors=tracks.errors[kept],
        observed_track=rank[tracks.observed_track[observed]],
        observed_view=tracks.observed_view[observed],
        observed_keypoint=tracks.observed_keypoint[observed],
    )
