"""The localizer of a map in tiles.

Retrieval over all mapping views names the tiles that a query may show, and the localizer of the first of
them, as of any map, computes a pose. Where other places look like that one (`landmarks.rivals`), the maps are
rendered at the corresponding poses, and what differs decides which of them the query shows; the pose is
computed there. If that is not clear, all pixels are compared at the refined pose; if that is not clear
either, and no other tile has a place that was not compared, the pose is returned unverified, with the rival.
Tiles are loaded when they are first needed.
"""

import copy
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
from gsplatloc.localization.initial import InitialPose
from gsplatloc.localization.initial.landmarks import LandmarkPose
from gsplatloc.localization.initial.replaced_camera import hypotheses_of
from gsplatloc.localization.landmarks.rivals import FILE_NAME as ALIKE_NAME
from gsplatloc.localization.landmarks.rivals import NONE_ALIKE, load_alike, same_places
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.options import LocalizerOptions
from gsplatloc.localization.queries import (
    CameraPrior,
    Query,
    as_rgb,
    camera_of_file,
    check_camera,
    check_pose,
)
from gsplatloc.localization.result import Localization, PoseEstimate
from gsplatloc.localization.tiles.comparison import FINE
from gsplatloc.localization.tiles.loaded import LoadedTile, LoadedTiles
from gsplatloc.localization.tiles.options import TileOptions
from gsplatloc.localization.tiles.place_index import FILE_NAME, PlaceIndex, load_places
from gsplatloc.localization.tiles.places import Choice, Place, likelier, place_at, shown, shown_closely
from gsplatloc.localization.tiles.shared_extractor import SharedExtractor
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.map_config import map_extractor
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.scene.tiled_map import TILES_NAME, is_tiled, read_tiles
from gsplatloc.utils.io import expanded

# Share of inliers from which a pose is not doubtful: of 260 images (building of seed 3, 26 rooms), 26 had a
# pose in a room of other furniture first, 24 of them with less, and so had a quarter of the others.
_AGREEING = 0.9


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
        check_camera(camera)
        check_pose(cam_from_world)
        photo = _Photo(as_rgb(image), camera, cam_from_world)
        photo.tiles.extend(self._tiles(photo))
        best = self._best(photo)
        found = best.found
        refined = found.verified and found.final.accepted
        if not refined and found.rival is None and best.tile.localizer.fallback is not None:
            found = best.tile.localizer.localize(photo.image, camera, cam_from_world)  # with its fallback
            if found.verified and len(best.tile.rivals):
                estimate, query = replace(best, found=found).in_tile(photo.image)
                found = self._decided(place_at(best.tile, estimate, query), photo, found).found
        rest_ms = 1000 * (time.perf_counter() - start) - found.total_ms
        return replace(found, search_ms=found.search_ms + max(0.0, rest_ms))

    def _tiles(self, photo: "_Photo") -> list[int]:
        """The tiles of the views most similar to a photo, or around its given pose, best first."""
        if photo.cam_from_world is not None:
            views = self.index.around(photo.cam_from_world, self.options.views)
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
            if best is None or (attempt.quality > best.quality and not best.has_compared(attempt)):
                best = attempt
            sure = best.found.verified and best.explained
            if sure and (best.found.final.accepted or len(best.tile.rivals) > 0):
                break
        assert best is not None
        return best

    def _among_rivals(self, tile: LoadedTile, photo: "_Photo") -> "_Attempt":
        """The pose in a tile, or in a rival: compared before the pose is refined, which takes longer."""
        query, _ = tile.localizer.query(photo.image, photo.camera)
        query, hypotheses, replaced = hypotheses_of(tile.localizer.initial, query)
        first = next(iter(hypotheses))
        if replaced:
            assert isinstance(photo.camera, Camera)
            photo = replace(photo, camera=CameraPrior(photo.camera, 0.0))
        if first.ok:
            attempt = self._decided(place_at(tile, first, replace(query, camera=first.camera)), photo)
        else:
            attempt = _Attempt(tile, _refined(tile, first, photo))
        return replace(attempt, found=replace(attempt.found, camera_replaced=replaced))

    def _decided(self, here: Place, photo: "_Photo", found: Localization | None = None) -> "_Attempt":
        """The attempt at that place which the query shows of those that look alike.

        It is unverified where that is not clear. `found`: the localization `here`, if it was made before.
        """
        choice = None if found is None and _doubtful(here.estimate) else shown(here, self.tiles)
        if choice is None or (found is None and not choice.clear):
            other = likelier(here, self.tiles)
            if other is not None and (near := self._near(other, photo)) is not None:
                here, choice = near, None
        choice = choice or shown(here, self.tiles)
        attempt = None if choice.place is here else self._moved(choice.place, photo)
        if attempt is None:
            attempt = _Attempt(here.tile, found or _refined(here.tile, here.estimate, photo))
            choice = choice.instead(here)
        if not attempt.found.verified or (choice.clear and choice.place.view.explained):
            return attempt
        return self._decided_closely(attempt, choice, photo)

    def _decided_closely(self, attempt: "_Attempt", choice: Choice, photo: "_Photo") -> "_Attempt":
        """The attempt at that place of an unclear choice which the query shows by all of its pixels.

        A clear one stays, and may have a wrong pose: then the rendering lacks a picture.
        """
        here = place_at(attempt.tile, *attempt.in_tile(photo.image), FINE)
        attempt = replace(attempt, explained=here.view.explained)
        if choice.clear:
            return attempt
        closely = shown_closely(here, choice)
        rival = None if closely.clear else closely.rivals[0]
        if closely.place is not here:
            moved = self._moved(closely.place, photo)
            attempt, rival = (attempt, closely.place) if moved is None else (moved, rival)
        if rival is None or not attempt.found.verified:
            return attempt
        height, width = photo.image.shape[:2]
        other = rival.estimate.in_world(rival.tile.frame).resized(width, height)
        return replace(attempt, found=replace(attempt.found, verified=False, rival=other))

    def _moved(self, place: Place, photo: "_Photo") -> "_Attempt | None":
        """The attempt that begins with the landmarks around a pose that was found elsewhere."""
        near = self._near(place, photo)
        return None if near is None else _Attempt(place.tile, _refined(place.tile, near.estimate, photo))

    def _near(self, place: Place, photo: "_Photo") -> Place | None:
        """The place at the pose by the landmarks around a pose that was found elsewhere; None without one."""
        initial = place.tile.localizer.initial
        assert isinstance(initial, LandmarkPose)
        query, _ = place.tile.localizer.query(photo.image, photo.camera)  # in the scale of this tile
        estimate = place.estimate.resized(query.camera.width, query.camera.height)
        near = initial.near(estimate, query)
        return place_at(place.tile, near, replace(query, camera=near.camera)) if near.ok else None


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
    explained: bool = True  # whether the rendering at its pose has the colours of the image, as far as known

    @property
    def quality(self) -> tuple[bool, bool, bool, int]:
        """Higher for the better of two attempts.

        Is it verified, does it explain the image, is its refinement accepted, its inliers.
        """
        first, final = next(iter(self.found.stages.values())), self.found.final
        accepted, inliers = final.ok and final.accepted, first.inliers if first.ok else 0
        return self.found.verified, self.explained, accepted, inliers

    def has_compared(self, other: "_Attempt") -> bool:
        """Whether another attempt's pose is in one of two places between which this one could not decide."""
        if self.found.rival is None or not self.explained or not other.found.final.ok:
            return False
        places = torch.stack([self.found.final.pose(), self.found.rival.pose()]).double()
        apart = self.tile.apart
        return bool(same_places(other.found.final.pose()[None].double(), places, apart).any())

    def in_tile(self, image: np.ndarray) -> tuple[PoseEstimate, Query]:
        """The final estimate in the tile's coordinates, and the query in its scale."""
        final = self.found.final
        query, _ = self.tile.localizer.query(image, final.camera)
        estimate = final.resized(query.camera.width, query.camera.height)
        return replace(estimate, cam_from_world=self.tile.frame.pose_in_map(final.pose())), query


@dataclass
class _Hypothesis(InitialPose):
    """`InitialPose` of an estimate that was made before, of the image in any size."""

    estimate: PoseEstimate
    name: str

    def hypotheses(self, query: Query) -> list[PoseEstimate]:
        return [self.estimate.resized(query.camera.width, query.camera.height)]


def _doubtful(estimate: PoseEstimate) -> bool:
    """Whether so few matches agree with a pose that it may be in a room of other furniture."""
    return estimate.matches is None or estimate.inliers < _AGREEING * len(estimate.matches)


def _refined(tile: LoadedTile, estimate: PoseEstimate, photo: _Photo) -> Localization:
    """The localization that begins with an estimate in a tile's coordinates, without fallback."""
    alone = _without_fallback(tile.localizer)
    alone.initial = _Hypothesis(estimate, alone.initial.name)
    return alone.localize(photo.image, photo.camera)


def _without_fallback(localizer: Localizer) -> Localizer:
    alone = copy.copy(localizer)
    alone.fallback = None
    return alone


def load_localizer(
    folder: Path,
    options: LocalizerOptions,
    iteration: int | None = None,
    tile_options: TileOptions | None = None,
) -> Localizer | TiledLocalizer:
    """The localizer of a map, of an `iteration` if one is given, or of a map in tiles."""
    if is_tiled(folder):
        return TiledLocalizer.load(folder, options, tile_options)
    return Localizer.load(folder, options, iteration)
