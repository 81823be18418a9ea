"""The localizer of a map in tiles.

Retrieval over all mapping views names the tiles that a query may show, and the localizer of the first of
them, as of any map, computes a pose. Where other places look like that one (`landmarks.rivals`), the maps are
rendered at the corresponding poses, and what differs decides which of them the query shows; the pose is
computed there. If that is not clear, the pose is returned unverified, with the rival. Tiles are loaded when
they are first needed.
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from gsplatloc.gaussian_renderer.device import rendering_device
from gsplatloc.localization.features import DEFAULT_EXTRACTOR, Extractor, make_extractor
from gsplatloc.localization.initial.landmarks import LandmarkPose
from gsplatloc.localization.landmarks.rivals import FILE_NAME as ALIKE_NAME
from gsplatloc.localization.landmarks.rivals import NONE_ALIKE, load_alike
from gsplatloc.localization.localizer import Localizer, check_pose
from gsplatloc.localization.options import LocalizerOptions
from gsplatloc.localization.queries import CameraPrior, Query, as_rgb, camera_of_file
from gsplatloc.localization.result import Localization, PoseEstimate
from gsplatloc.localization.tiles.comparison import View
from gsplatloc.localization.tiles.loaded import LoadedTile, LoadedTiles
from gsplatloc.localization.tiles.options import TileOptions
from gsplatloc.localization.tiles.place_index import FILE_NAME, PlaceIndex, load_places
from gsplatloc.localization.tiles.shared_extractor import SharedExtractor
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.map_config import map_extractor
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.scene.tiled_map import TILES_NAME, read_tiles
from gsplatloc.utils import se3
from gsplatloc.utils.io import expanded

_MOST_MOVES = 3  # from a place to a rival
_SIMILAR = 5  # tiles most similar to the query that are compared even if they share few landmarks


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
    >>> found.status, found.final.center, found.rival
    """

    def __init__(
        self,
        folder: Path,
        index: PlaceIndex,
        load: Callable[[int], LoadedTile],
        extractor: Extractor,
        options: TileOptions | None = None,
    ) -> None:
        """`load` reads a tile by its number."""
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
        tiles = [folder / tile.folder for tile in read_tiles(folder)]
        index = load_places(folder / FILE_NAME, len(tiles))
        device = rendering_device(options.device, quiet=options.quiet)
        name = map_extractor(folder) or DEFAULT_EXTRACTOR
        extractor = SharedExtractor(make_extractor(name, device, options.top_k))
        quiet = replace(options, quiet=True)

        def load(number: int) -> LoadedTile:
            localizer = Localizer.load(tiles[number], quiet, extractor=extractor)
            if not isinstance(localizer.initial, LandmarkPose) or not localizer.refiners:
                return LoadedTile(number, localizer, NONE_ALIKE)
            path, landmarks = tiles[number] / ALIKE_NAME, len(localizer.initial.landmarks)
            return LoadedTile(number, localizer, load_alike(path, len(tiles), landmarks))

        return cls(folder, index, load, extractor, tile_options)

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
        check_pose(cam_from_world)
        photo = _Photo(as_rgb(image), camera, cam_from_world)
        photo.tiles.extend(self._tiles(photo))
        best = self._best(photo)
        found = best.found
        if not found.verified and found.rival is None:
            found = best.tile.localizer.localize(photo.image, camera, cam_from_world)  # with its fallback
            found = self._compared(replace(best, found=found), photo).found
        rest_ms = 1000 * (time.perf_counter() - start) - found.total_ms
        return replace(found, search_ms=found.search_ms + max(0.0, rest_ms))

    def _tiles(self, photo: "_Photo") -> list[int]:
        """The tiles of the views most similar to a photo, or nearest to its given pose, best first."""
        if photo.cam_from_world is not None:
            views = self._nearest_views(photo.cam_from_world, self.options.views)
        else:
            loaded = self.tiles.numbers()
            any_tile = self.tiles[loaded[-1] if loaded else 0]  # for the size of the image
            query, _ = any_tile.localizer.query(photo.image, photo.camera)
            views = self.index.nearest(query.dense.cpu(), self.options.views)
        return list(dict.fromkeys(self.index.tiles[views].tolist()))

    def _best(self, photo: "_Photo") -> "_Attempt":
        """The best attempt without fallback: the first that is accepted."""
        best: _Attempt | None = None
        for number in photo.tiles[: self.options.candidates]:
            tile = self.tiles[number]
            if len(tile.rivals) and photo.cam_from_world is None:
                attempt = self._among_rivals(tile, photo)
            else:
                alone = _without_fallback(tile.localizer)
                attempt = _Attempt(tile, alone.localize(photo.image, photo.camera, photo.cam_from_world))
            if best is None or attempt.quality > best.quality:
                best = attempt
            settled = best.found.verified and (best.found.final.accepted or len(best.tile.rivals) > 0)
            if settled or best.found.rival is not None:
                break
        assert best is not None
        return best

    def _among_rivals(self, tile: LoadedTile, photo: "_Photo") -> "_Attempt":
        """The pose in a tile, or in a rival: compared before the pose is refined, which takes longer."""
        query, _ = tile.localizer.query(photo.image, photo.camera)
        first = next(iter(tile.localizer.initial.hypotheses(query)))
        if not first.ok:
            return _Attempt(tile, _refined(tile, first, photo))
        choice = self._choice(tile, first, replace(query, camera=first.camera), photo)
        if choice.score < -1:
            return self._compared(self._moved(tile, choice.number, first, photo), photo)
        attempt = _Attempt(tile, _refined(tile, first, photo))
        return attempt if choice.score > 1 else self._compared(attempt, photo)

    def _moved(self, tile: LoadedTile, number: int, estimate: PoseEstimate, photo: "_Photo") -> "_Attempt":
        """The pose in a rival of a tile that corresponds to an estimate in the tile."""
        target, there = self._corresponding(tile, number, estimate)
        query, _ = target.localizer.query(photo.image, photo.camera)
        assert isinstance(target.localizer.initial, LandmarkPose)
        return _Attempt(target, _refined(target, target.localizer.initial.near(there, query), photo))

    def _compared(self, attempt: "_Attempt", photo: "_Photo") -> "_Attempt":
        """The attempt, or that in a rival if the query shows that; unverified if it may show either."""
        for _ in range(_MOST_MOVES):
            if not attempt.found.verified or not len(attempt.tile.rivals):
                return attempt
            estimate, query = attempt.in_tile(photo.image)
            choice = self._choice(attempt.tile, estimate, query, photo)
            if choice.score > 1:
                return attempt
            rival = self._moved(attempt.tile, choice.number, estimate, photo)
            if not rival.found.final.ok:
                target, there = self._corresponding(attempt.tile, choice.number, estimate)
                return attempt.unverified(there.in_world(target.frame))
            if not rival.found.verified or choice.score >= -1:
                first, second = (attempt, rival) if choice.score > 0 else (rival, attempt)
                return first.unverified(second.found.final)
            attempt, before = rival, attempt
        return attempt.unverified(before.found.final)

    def _corresponding(
        self, tile: LoadedTile, number: int, estimate: PoseEstimate
    ) -> tuple[LoadedTile, PoseEstimate]:
        """The tile of a rival, and the pose there that corresponds to an estimate in `tile`."""
        target = self.tiles[int(tile.rivals.tiles[number])]
        return target, replace(estimate, cam_from_world=_elsewhere(tile, number, estimate, target))

    def _choice(self, tile: LoadedTile, estimate: PoseEstimate, query: Query, photo: "_Photo") -> "_Choice":
        """The strongest rival of a pose in a tile."""
        initial = tile.localizer.initial
        assert isinstance(initial, LandmarkPose)
        numbers = tile.rivals.plausible(estimate, initial.landmarks, photo.tiles[:_SIMILAR])
        if not numbers:
            return _NO_RIVAL
        here = View(query, tile.localizer.splat_map, initial.landmarks, estimate)
        views = [self._view(tile, number, estimate, query) for number in numbers]
        seen = [index for index, view in enumerate(views) if view.covers(here)]
        if not seen:
            return _NO_RIVAL
        numbers, views = [numbers[index] for index in seen], [views[index] for index in seen]
        found = [here.preferred_to(view) for view in views]
        worst = min(range(len(found)), key=lambda index: found[index].score)
        return _Choice(numbers[worst], found[worst].score)

    def _view(self, tile: LoadedTile, number: int, estimate: PoseEstimate, query: Query) -> View:
        """What a rival of a tile shows at the pose that corresponds to an estimate in the tile."""
        target, there = self._corresponding(tile, number, estimate)
        assert isinstance(target.localizer.initial, LandmarkPose)
        return View(query, target.localizer.splat_map, target.localizer.initial.landmarks, there)

    def _nearest_views(self, cam_from_world: Tensor, count: int) -> Tensor:
        distance = (self.index.centers - se3.camera_center(cam_from_world.double().cpu())).norm(dim=1)
        return distance.topk(min(count, len(distance)), largest=False).indices


@dataclass(frozen=True)
class _Photo:
    """An image to localize."""

    image: np.ndarray  # [H, W, 3] uint8 RGB
    camera: Camera | CameraPrior | None
    cam_from_world: Tensor | None  # the given pose, if any
    tiles: list[int] = field(default_factory=list)  # those of the most similar mapping views, best first


@dataclass(frozen=True)
class _Attempt:
    """The result of one tile."""

    tile: LoadedTile
    found: Localization

    @property
    def quality(self) -> tuple[bool, bool, int]:
        """Higher for the better of two attempts: is it verified, is its refinement accepted, its inliers."""
        first, final = next(iter(self.found.stages.values())), self.found.final
        return self.found.verified, final.ok and final.accepted, first.inliers if first.ok else 0

    def unverified(self, rival: PoseEstimate) -> "_Attempt":
        """This attempt without its verification, because of another pose."""
        return replace(self, found=replace(self.found, verified=False, rival=rival))

    def in_tile(self, image: np.ndarray) -> tuple[PoseEstimate, Query]:
        """The final estimate in the tile's coordinates, and the query in its scale."""
        final = self.found.final
        query, _ = self.tile.localizer.query(image, final.camera)
        estimate = final.resized(query.camera.width, query.camera.height)
        return replace(estimate, cam_from_world=self.tile.frame.pose_in_map(final.pose())), query


@dataclass(frozen=True)
class _Choice:
    """The rival of a pose that a query shows most probably."""

    number: int  # in the tile's rivals; -1 = there is none
    score: float  # above 1 where the query shows the pose, and below -1 where it shows the rival


_NO_RIVAL = _Choice(-1, math.inf)


@dataclass
class _Hypothesis:
    """`InitialPose` of an estimate that was made before."""

    estimate: PoseEstimate
    name: str

    def hypotheses(self, query: Query) -> list[PoseEstimate]:
        return [self.estimate]


def _refined(tile: LoadedTile, estimate: PoseEstimate, photo: _Photo) -> Localization:
    """The localization that begins with an estimate in a tile's coordinates, without fallback."""
    alone = _without_fallback(tile.localizer)
    alone.initial = _Hypothesis(estimate, alone.initial.name)
    return alone.localize(photo.image, photo.camera)


def _without_fallback(localizer: Localizer) -> Localizer:
    alone = copy.copy(localizer)
    alone.fallback = None
    return alone


def _elsewhere(tile: LoadedTile, number: int, estimate: PoseEstimate, target: LoadedTile) -> Tensor:
    """The pose in the tile of a rival that corresponds to an estimate in a tile, each in its coordinates."""
    world = tile.frame.pose_in_world(estimate.pose()) @ se3.inverse(tile.rivals.motions[number])
    return target.frame.pose_in_map(world)
