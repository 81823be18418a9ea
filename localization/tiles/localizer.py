"""The localizer of a map in tiles.

Retrieval over all mapping views names the tiles that a query may show. The localizer of each tile, as of any
map, computes a pose. Places that look alike are told apart by the tiles' maps: a tile elsewhere is tried as
well if its landmarks have nearly as many inliers, and the pose whose rendering looks most like the query is
returned. Tiles are loaded when they are first needed; beyond a budget of memory, those used longest ago are
dropped.
"""

import copy
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from gsplatloc.gaussian_renderer.device import rendering_device
from gsplatloc.localization.features import DEFAULT_EXTRACTOR, Extractor, Features, make_extractor
from gsplatloc.localization.initial.given import GivenPose
from gsplatloc.localization.initial.landmarks import LandmarkPose
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.options import LocalizerOptions
from gsplatloc.localization.queries import CameraPrior, as_rgb, camera_of_file
from gsplatloc.localization.result import Localization
from gsplatloc.localization.tiles.options import TileOptions
from gsplatloc.localization.tiles.place_index import FILE_NAME, PlaceIndex, load_places
from gsplatloc.localization.verification import image_correlations
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.map_config import map_extractor
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.scene.tiled_map import TILES_NAME, read_tiles
from gsplatloc.utils import se3
from gsplatloc.utils.io import expanded

_SAME_PLACE = 20  # a retrieved view is of the place of a pose if it is among so many views nearest to it
# Share of the inliers of one place that another must have for renderings to decide between them. A place that
# looks alike had up to 0.75 of the right one's in a building that was made for this choice (seed 0).
_RIVAL = 0.7
_CLEARLY = 0.3  # difference of a block's correlations that is a vote; made with the same kind of building
_KEPT_FEATURES = 4  # images whose features are kept: the tiles of a query extract them once


class SharedExtractor:
    """An extractor that keeps the features of the last images, for localizers of several tiles."""

    def __init__(self, extractor: Extractor) -> None:
        self._extractor = extractor
        self.name, self.version, self.channels = extractor.name, extractor.version, extractor.channels
        self.device, self.top_k = extractor.device, extractor.top_k
        self._kept: OrderedDict[bytes, Features] = OrderedDict()
        self._lock = threading.Lock()

    def extract(self, image: np.ndarray) -> Features:
        """Features of an image [H, W, 3] uint8 RGB, on `device`."""
        key = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16)
        key.update(str(image.shape).encode())
        with self._lock:
            found = self._kept.get(key.digest())
        if found is None:
            found = self._extractor.extract(image)
            with self._lock:
                self._kept[key.digest()] = found
                while len(self._kept) > _KEPT_FEATURES:
                    self._kept.popitem(last=False)
        return found

    def dense_size(self, width: int, height: int) -> tuple[int, int]:
        return self._extractor.dense_size(width, height)


class LoadedTiles:
    """The localizers of tiles, made when they are first needed, with a budget of memory."""

    def __init__(self, load: Callable[[int], Localizer], memory_mb: float) -> None:
        self._load, self._memory = load, memory_mb * 1e6
        self._loaded: OrderedDict[int, Localizer] = OrderedDict()  # the one used last at the end
        self._lock = threading.Lock()
        self._dropped: dict[int, int] = {}  # bytes that were read of tiles that are no longer loaded

    def __getitem__(self, number: int) -> Localizer:
        with self._lock:
            if number not in self._loaded:
                self._loaded[number] = self._load(number)
                self._drop()
            self._loaded.move_to_end(number)
            return self._loaded[number]

    def numbers(self) -> list[int]:
        """The loaded tiles, the one used last at the end."""
        return list(self._loaded)

    def bytes_read(self) -> int:
        """Size of the files that were read so far of all tiles."""
        with self._lock:
            loaded = {number: tile.splat_map.bytes_read() for number, tile in self._loaded.items()}
        return sum((self._dropped | loaded).values())

    def _drop(self) -> None:
        while len(self._loaded) > 1 and sum(map(tile_memory, self._loaded.values())) > self._memory:
            number, localizer = self._loaded.popitem(last=False)
            self._dropped[number] = localizer.splat_map.bytes_read()


class _WholeMap(SplatMap):
    """The folder of a map in tiles: views and coordinates, and the bytes read of its tiles."""

    def __init__(self, folder: Path, tiles: LoadedTiles, device: torch.device) -> None:
        super().__init__(folder, device=device)
        self._tiles = tiles

    def bytes_read(self) -> int:
        return super().bytes_read() + self._tiles.bytes_read()


class TiledLocalizer:
    """Localizes images in a map in tiles, as a `Localizer` does in one map. Threads may share it.

    >>> localizer = TiledLocalizer.load("output/building")
    >>> found = localizer.localize("photo.jpg")
    """

    def __init__(
        self,
        folder: Path,
        index: PlaceIndex,
        load: Callable[[int], Localizer],
        extractor: Extractor,
        options: TileOptions | None = None,
    ) -> None:
        """`load` makes the localizer of a tile by its number."""
        self.options, self.index, self.extractor = options or TileOptions(), index, extractor
        self.tiles = LoadedTiles(load, self.options.memory_mb)
        self.splat_map: SplatMap = _WholeMap(folder, self.tiles, extractor.device)
        for name in (TILES_NAME, FILE_NAME):
            self.splat_map.file(name)

    @classmethod
    def load(
        cls,
        map_dir: Path | str,
        options: LocalizerOptions | None = None,
        tile_options: TileOptions | None = None,
    ) -> "TiledLocalizer":
        """The localizer of a map that `gsplatloc train --tile_views` wrote; tiles are read when needed."""
        options, folder = options or LocalizerOptions(), expanded(map_dir)
        tiles = read_tiles(folder)
        index = load_places(folder / FILE_NAME, len(tiles))
        device = rendering_device(options.device, quiet=options.quiet)
        name = map_extractor(folder) or DEFAULT_EXTRACTOR
        extractor = SharedExtractor(make_extractor(name, device, options.top_k))
        quiet = replace(options, quiet=True)

        def load_tile(number: int) -> Localizer:
            return Localizer.load(folder / tiles[number].folder, quiet, extractor=extractor)

        return cls(folder, index, load_tile, extractor, tile_options)

    def localize(
        self,
        image: np.ndarray | PIL.Image.Image | Path | str,
        camera: Camera | CameraPrior | None = None,
        cam_from_world: Tensor | None = None,
    ) -> Localization:
        """The pose of an image, see `Localizer.localize`."""
        start = time.perf_counter()
        if isinstance(image, str | Path) and camera is None:
            camera = camera_of_file(Path(image))
        image = as_rgb(image)
        views = self._views(image, camera, cam_from_world)
        best = self._best(image, camera, cam_from_world, views)
        found = best.found
        if not found.verified:
            found = best.localizer.localize(image, camera, cam_from_world)  # with its fallback
        rest_ms = 1000 * (time.perf_counter() - start) - found.total_ms
        return replace(found, search_ms=found.search_ms + max(0.0, rest_ms))

    def _views(
        self, image: np.ndarray, camera: Camera | CameraPrior | None, cam_from_world: Tensor | None
    ) -> Tensor:
        """The mapping views that are most similar to an image, or nearest to the given pose, best first."""
        if cam_from_world is not None:
            return self._nearest_views(cam_from_world, self.options.views)
        numbers = self.tiles.numbers()
        localizer = self.tiles[numbers[-1] if numbers else 0]  # any of them, for the size of the image
        query, _ = localizer.query(image, camera)
        return self.index.nearest(query.dense.cpu(), self.options.views)

    def _best(
        self,
        image: np.ndarray,
        camera: Camera | CameraPrior | None,
        cam_from_world: Tensor | None,
        views: Tensor,
    ) -> "_Attempt":
        """The best attempt without fallback, in the tiles of `views`."""
        of_views = self.index.tiles[views]
        candidates = list(dict.fromkeys(of_views.tolist()))[: self.options.candidates]
        best: _Attempt | None = None
        for tile in candidates:
            sure = best if best is not None and best.is_accepted else None
            if sure is not None and not self._elsewhere(sure, views[of_views == tile]):
                continue
            localizer = self.tiles[tile]
            if sure is not None and not _is_rival(localizer, image, camera, sure):
                continue
            found = _without_fallback(localizer).localize(image, camera, cam_from_world)
            attempt = _Attempt(localizer, found)
            if best is None or attempt.beats(best, image):
                best = attempt
        assert best is not None
        return best

    def _elsewhere(self, attempt: "_Attempt", views: Tensor) -> bool:
        """Whether none of `views` is among the mapping views nearest to the pose that was found."""
        near = self._nearest_views(attempt.found.final.pose(), _SAME_PLACE)
        return not bool(torch.isin(views, near).any())

    def _nearest_views(self, cam_from_world: Tensor, count: int) -> Tensor:
        distance = (self.index.centers - se3.camera_center(cam_from_world.double().cpu())).norm(dim=1)
        return distance.topk(min(count, len(distance)), largest=False).indices


@dataclass(frozen=True)
class _Attempt:
    """The result of one tile."""

    localizer: Localizer
    found: Localization

    @property
    def is_accepted(self) -> bool:
        """Whether the pose is verified, and the last refinement accepted it."""
        return self.found.verified and self.found.final.accepted

    @property
    def inliers(self) -> int:
        """Of the initial pose; 0 if there is none."""
        first = next(iter(self.found.stages.values()))
        return first.inliers if first.ok else 0

    def beats(self, other: "_Attempt", image: np.ndarray) -> bool:
        """Whether this pose has far more inliers or, of about as many, more votes of the image's blocks."""
        low, high = sorted((self.inliers, other.inliers))
        if low <= _RIVAL * high or not self.localizer.refiners:
            return self.inliers > other.inliers
        if self.found.verified != other.found.verified:
            return self.found.verified
        votes = _votes(self._correlations(image), other._correlations(image))
        return votes > 0 or (votes == 0 and self.inliers > other.inliers)

    def _correlations(self, image: np.ndarray) -> np.ndarray:
        """Of the image with the map rendered at the pose, block by block [48]."""
        splat_map, final = self.localizer.splat_map, self.found.final
        query, _ = self.localizer.query(image, final.camera)
        pose = splat_map.frame.pose_in_map(final.pose())
        return image_correlations(query.image, query.camera, splat_map, pose)


def _votes(a: np.ndarray, b: np.ndarray) -> int:
    """In how many more blocks `a` is clearly more like the image than `b`, of those that both maps cover.

    The score that verifies poses is hardly less at a place that differs in a few things, and depends more
    on the quality of the map. The mean of the blocks chose the right one of two such rooms for 14 of 24
    images; the votes, and inliers where they are equal, for 21.
    """
    difference = a - b  # NaN where one is
    return int((difference > _CLEARLY).sum() - (difference < -_CLEARLY).sum())


def _is_rival(
    localizer: Localizer, image: np.ndarray, camera: Camera | CameraPrior | None, best: _Attempt
) -> bool:
    """Whether a tile's landmarks have nearly as many inliers as the pose that was found."""
    if isinstance(localizer.initial, GivenPose):
        return False
    query, _ = localizer.query(image, camera)
    return any(h.ok and h.inliers > _RIVAL * best.inliers for h in localizer.initial.hypotheses(query))


def _without_fallback(localizer: Localizer) -> Localizer:
    alone = copy.copy(localizer)
    alone.fallback = None
    return alone


def tile_memory(localizer: Localizer) -> int:
    """Bytes of the Gaussians and landmarks of a localizer that are in memory."""
    size = localizer.splat_map.bytes_in_memory()
    if isinstance(localizer.initial, LandmarkPose):
        landmarks = localizer.initial.landmarks
        parts = (getattr(landmarks, field.name) for field in fields(landmarks))
        size += sum(part.nbytes for part in parts if isinstance(part, Tensor))
    return size
