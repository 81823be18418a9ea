"""Poses of images from the images alone, by the features that the map is made of.

Keypoints of the extractor, in the quarter turn that matches the other photos; pairs by order and similarity
instead of all pairs; mutual nearest descriptors, and a learned matcher where these connect an image with too
few others; COLMAP's incremental mapping; keypoints aligned by the images themselves. Features and matches are
kept in a work folder, from which a run that was stopped goes on.
"""

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gsplatloc.localization.features import Extractor
from gsplatloc.localization.matching.images.keypoints import KeypointMatcher
from gsplatloc.localization.matching.images.lightglue import matcher_for
from gsplatloc.localization.queries import QueryImage, queries_in_folder
from gsplatloc.mapping.feature_cache import CachedKeypoints, FeatureCache
from gsplatloc.mapping.options import PosingOptions
from gsplatloc.mapping.posing.database import MatchDatabase, cameras_by_size
from gsplatloc.mapping.posing.pairs import first_pairs, second_pairs, similarities
from gsplatloc.mapping.posing.tracks import refine_tracks
from gsplatloc.mapping.posing.turns import turned, turned_back, turned_size, upright
from gsplatloc.mapping.triangulation import match_keypoints, quiet_pycolmap
from gsplatloc.scene.incremental_mapping import FEWEST_POSED, largest_model, model_line
from gsplatloc.utils.clock import Clock, in_stages
from gsplatloc.utils.colmap import pycolmap, working_in
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError


def pose_images(
    images: Path, model: Path, work: Path, extractor: Extractor, options: PosingOptions | None = None
) -> None:
    """Write the largest COLMAP model of the images below `images` into the new folder `model`.

    Features and matches are kept in the folder `work`. Raises `GSplatLocError` if there are no three images
    that overlap.
    """
    options = options or PosingOptions()
    photos = queries_in_folder(images)
    if len(photos) < FEWEST_POSED:
        raise GSplatLocError(
            f"expected at least {FEWEST_POSED} images in {images}, found {len(photos)}: take more"
        )
    clock = Clock()
    cache = FeatureCache(work / "features", extractor)
    cache.prepare(photos, options.quiet)
    clock.lap("features")
    cameras = cameras_by_size([images / photo.name for photo in photos], options.camera_model)
    turns = upright(photos, [_size(camera) for camera in cameras], cache)
    if any(turns):
        log(f"turned     {np.count_nonzero(turns)} of {len(photos)} photos match the others", options.quiet)
    database = work / f"matches-{_key(photos, extractor, options, turns)}.db"
    with quiet_pycolmap(), working_in(work):
        _match(photos, turns, cameras, database, cache, options)
        clock.lap("matching")
        shutil.rmtree(work / "models", ignore_errors=True)  # of a run that was stopped
        largest = largest_model(database, images, work / "models", len(photos), options.quiet, draft=True)
        clock.lap("mapping")
        refine_tracks(largest, images, options.quiet)
        clock.lap("refinement")
        finished = work / "models" / "largest"
        finished.mkdir()
        largest.write_binary(str(finished))
    log(model_line(largest, len(photos)), options.quiet)
    log(f"posing     {in_stages(clock.seconds)}", options.quiet)
    model.parent.mkdir(parents=True, exist_ok=True)
    finished.rename(model)


def _match(
    photos: Sequence[QueryImage],
    turns: Sequence[int],
    cameras: Sequence[pycolmap.Camera],
    path: Path,
    cache: FeatureCache,
    options: PosingOptions,
) -> None:
    """Write the verified matches of all pairs that are compared into the database at `path`."""
    seen = [turned(photo, quarters) for photo, quarters in zip(photos, turns)]
    keypoints = CachedKeypoints(cache, seen)
    similarity = similarities(lambda: _dense_maps(seen, cache))
    learned = matcher_for(cache.extractor)

    device = cache.extractor.device

    def mutual(a: int, b: int) -> np.ndarray:
        return match_keypoints(keypoints[a], keypoints[b], device)

    def by_network(matcher: KeypointMatcher, a: int, b: int) -> np.ndarray:
        sizes = [turned_size(_size(cameras[image]), turns[image]) for image in (a, b)]
        found = [keypoints[image].to(device) for image in (a, b)]
        pairs = torch.stack(matcher.pair(found[0], sizes[0], found[1], sizes[1])[:2], 1)
        return pairs.cpu().numpy().astype(np.uint32)

    with closing(MatchDatabase(path, [photo.name for photo in photos], cameras)) as database:
        database.write_keypoints(
            turned_back(found, _size(camera), quarters)
            for found, camera, quarters in zip(keypoints, cameras, turns)
        )
        database.match(first_pairs(similarity), mutual, "matching", options.quiet)
        again = second_pairs(similarity, database.verified()) if learned is not None else []
        if learned is not None and again:
            database.match_again(again, partial(by_network, learned), "matching again", options.quiet)


def _dense_maps(photos: Sequence[QueryImage], cache: FeatureCache) -> Iterator[Tensor]:
    for photo in photos:
        yield torch.from_numpy(cache.load_dense(photo)).float()


def _size(camera: pycolmap.Camera) -> tuple[int, int]:
    return camera.width, camera.height


def _key(
    photos: Sequence[QueryImage], extractor: Extractor, options: PosingOptions, turns: Sequence[int]
) -> str:
    """A name for what the matches depend on."""
    names = [photo.name for photo in photos]
    facts = extractor.version, extractor.top_k, options.camera_model, names, list(turns)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
