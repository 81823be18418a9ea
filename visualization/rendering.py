"""Renderings of a map from many cameras: colour, depth and descriptors, as image files and a film."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from gsplatloc.gaussian_renderer import RenderOptions, RenderResult, render
from gsplatloc.scene.cameras import PosedCamera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.map_frame import median_depth, usual_unit
from gsplatloc.scene.videos import open_video
from gsplatloc.utils.console import log, progress
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import output_path, utf8_path, write_bytes
from gsplatloc.utils.locks import temporary_path
from gsplatloc.visualization import images
from gsplatloc.visualization.images import FeatureColors, Image

KINDS = ("rgb", "depth", "features")
_CELL = 8  # pixels of the image per rendered descriptor, along each axis, for any extractor


@dataclass(frozen=True)
class ImageOptions:
    """The outputs per camera."""

    depth: bool = True  # near is red, far is blue; one scale for all cameras
    features: bool = True  # three principal components of the descriptors, if the map has any
    video: bool = True  # also a film with all renderings of a camera side by side
    fps: int = 30  # frames per second of the film


@dataclass(frozen=True)
class Renderings:
    """One camera's renderings."""

    name: str
    images: dict[str, Image]  # by kind: rgb, depth, features


class MapPictures:
    """Pictures of a map from any camera; colours of depth and descriptors are the same for all of them."""

    def __init__(self, gaussians: Gaussians, cameras: Sequence[PosedCamera], features: bool = True) -> None:
        """`cameras`, of which the middle one decides on the colours, may be empty if `features` is off.

        Maps of other programs may have any unit of length, and the near plane follows it.
        """
        self._gaussians = gaussians
        self._features = features and gaussians.features.shape[1] > 0
        unit = usual_unit(median_depth(cameras, gaussians.means.double().cpu().numpy()))
        self._near = RenderOptions.near * unit
        first = self._render(cameras[len(cameras) // 2]) if cameras else None
        self._palette = None if first is None or first.features is None else FeatureColors(first.features)
        self._range = (None, None) if first is None else _depth_range(first)

    def draw(self, posed: PosedCamera, kinds: Sequence[str] = KINDS) -> dict[str, Image]:
        """The pictures by kind, those of `kinds`; features only if the map has descriptors."""
        result = self._render(posed)
        shown = {}
        if "rgb" in kinds:
            shown["rgb"] = images.to_image(result.rgb)
        if "depth" in kinds:
            shown["depth"] = images.colorize_depth(result.depth.cpu().numpy(), *self._range)
        if "features" in kinds and self._palette is not None and result.features is not None:
            size = (posed.camera.width, posed.camera.height)
            shown["features"] = images.resize(self._palette(result.features), *size, smooth=False)
        return shown

    @torch.no_grad()
    def _render(self, posed: PosedCamera) -> RenderResult:
        camera = posed.camera
        cells = (math.ceil(camera.height / _CELL), math.ceil(camera.width / _CELL))
        options = RenderOptions(near=self._near, feature_size=cells if self._features else None)
        return render(self._gaussians, camera, posed.cam_from_world, options)


def render_images(
    gaussians: Gaussians, cameras: Sequence[PosedCamera], options: ImageOptions
) -> Iterator[Renderings]:
    """Render each camera in turn."""
    pictures = MapPictures(gaussians, cameras, options.features)
    kinds = [kind for kind in KINDS if kind != "depth" or options.depth]
    for posed in cameras:
        yield Renderings(posed.name, pictures.draw(posed, kinds))


def write_images(folder: Path | str, shown: Iterable[Renderings], total: int, options: ImageOptions) -> None:
    """Write rgb/, depth/ and features/ into `folder`, and a film of them if OpenCV can encode one."""
    folder = Path(folder)
    taken: set[Path] = set()
    with Film(folder / "film.mp4", options.fps) as film:
        for rendered in progress(shown, total, "rendering"):
            for kind, image in rendered.images.items():
                path = output_path(folder / kind, rendered.name, ".png", taken)
                write_bytes(path, images.encode_png(image), durable=False)
            if options.video:
                film.add(np.hstack(list(rendered.images.values())))


class Film:
    """An .mp4 that is written frame by frame; without an encoder a message is logged instead, once.

    It has its name only when it is complete.
    """

    def __init__(self, path: Path, fps: int) -> None:
        self._path, self._fps = path, fps
        self._temporary = temporary_path(path)
        self._writer: cv2.VideoWriter | None = None
        self._size, self._count = (0, 0), 0

    def __enter__(self) -> "Film":
        return self

    def add(self, frame: Image) -> None:
        """Append a frame; frames of another size than the first are scaled."""
        if self._writer is None:
            self._size = (frame.shape[1] // 2 * 2, frame.shape[0] // 2 * 2)  # encoders want even sizes
            codec = cv2.VideoWriter.fourcc(*"mp4v")
            with utf8_path(self._temporary) as writable:
                self._writer = cv2.VideoWriter(writable, codec, self._fps, self._size)
            if not self._writer.isOpened():
                log("no film: this OpenCV has no .mp4 encoder")
        if self._writer.isOpened():
            same = (frame.shape[1], frame.shape[0]) == self._size
            frame = frame if same else images.resize(frame, *self._size)
            self._writer.write(np.ascontiguousarray(frame[..., ::-1]))
            self._count += 1

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._writer is None or not self._writer.isOpened():
            return
        self._writer.release()
        try:
            if kind is None:
                self._check()
                self._temporary.replace(self._path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def _check(self) -> None:
        """Raise if frames are missing: the encoder reports no error when the disk is full."""
        found = round(open_video(self._temporary).get(cv2.CAP_PROP_FRAME_COUNT))
        if found != self._count:
            raise GSplatLocError(
                f"expected to write a film of {self._count} frames to {self._path}, found that {found} were"
                " written: free some space, or pass --no_video"
            )


def _depth_range(result: RenderResult) -> tuple[float, float]:
    known = result.depth[result.alpha > 0.5].cpu().numpy()
    return tuple(np.percentile(known, (1, 99)).tolist()) if known.size else (0.0, 1.0)
