"""Finds the places of a map that look alike, by its landmarks: see `localization.landmarks.rivals`."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from gsplatloc.localization.landmarks.file import FILE_NAME as LANDMARKS_NAME
from gsplatloc.localization.landmarks.file import Landmarks, load_landmarks
from gsplatloc.localization.landmarks.rivals import (
    FILE_NAME,
    NONE_ALIKE,
    AlikePlaces,
    joined,
    load_alike,
    save_alike,
    viewing_distance,
)
from gsplatloc.localization.tiles.place_index import PlaceIndex
from gsplatloc.scene.map_config import map_frame
from gsplatloc.scene.map_frame import MapFrame
from gsplatloc.scene.tiled_map import Tile
from gsplatloc.utils import se3
from gsplatloc.utils.distances import exact_distances
from gsplatloc.utils.errors import GSplatLocError

_MIN_SIMILARITY = 0.8  # cosine of landmarks that may be the same thing in two places
_SAME = 0.85  # cosine of a landmark and its counterpart
# Lengths are relative to the median distance from which the landmarks were seen, 2.5 m in a furnished room.
_APART = 0.2  # pairs nearer to each other are of one place, which is in both tiles
_TOLERANCE = 0.025  # between a landmark that was moved onto another place and the one like it there
_COUNTERPART = 0.04  # between a landmark that was moved and its counterpart
_WIDE = 10.0  # tolerances: shortest side of a triangle that determines a motion
_SAME_MOTION = 5.0  # tolerances: pairs nearer than this are no support of another motion
_COMPARED = 2_000  # landmarks of a tile that are compared for motions, the most often observed
_LEAST = 40  # landmarks that a motion must move onto similar ones
_SAMPLES = 512  # triples of pairs that are tried
_MOST = 4  # motions between two tiles
_ROUNDS = 3  # of fitting a motion to its inliers
_ROWS = 1024  # landmarks or views that are compared at once, which bounds the memory
_KEPT = 16  # tiles whose landmarks are kept in memory
_SIMILAR = 32  # most similar views elsewhere, whose tiles may look alike
_VIEWS_APART = 0.7  # views nearer to each other are of one place
_LEAST_SIMILAR = 6  # pairs of similar views of two tiles whose landmarks are compared
_SEED = 0


def write_alike(output: Path, tiles: Sequence[Tile], index: PlaceIndex) -> int:
    """Compare the tiles of a map, and write the rivals of each into its folder; returns how many pairs.

    Nothing is done if the tiles are those that were compared before.
    """
    folders = [output / tile.folder for tile in tiles]
    key = hashlib.blake2b("".join(tile.key for tile in tiles).encode(), digest_size=16).hexdigest()
    with suppress(GSplatLocError):  # damaged, or of other tiles: compared anew
        known = [
            load_alike(folder / FILE_NAME, len(tiles), tile.landmarks) for folder, tile in zip(folders, tiles)
        ]
        if all(places.key == key for places in known):
            return sum(map(len, known)) // 2
    x, y, z = index.centers.median(0).values.tolist()
    frame = MapFrame((x, y, z))

    def load(number: int) -> Landmarks:
        landmarks = load_landmarks(folders[number] / LANDMARKS_NAME)
        return in_frame(landmarks, map_frame(folders[number]), frame)

    apart = _VIEWS_APART * median(viewing_distance(load(number)) for number in range(len(tiles)))
    rivals = find_alike(similar_tiles(index, len(tiles), apart), load)
    for number, folder in enumerate(folders):
        places = rivals.get(number, NONE_ALIKE)
        motions = _in_world(places.motions, frame.origin)
        save_alike(replace(places, motions=motions, key=key), folder / FILE_NAME)
    return sum(map(len, rivals.values())) // 2


def _in_world(motions: Tensor, center: tuple[float, float, float]) -> Tensor:
    """Motions [R, 4, 4] relative to `center`, in the world."""
    origin, rotations = torch.tensor(center, dtype=torch.float64), motions[:, :3, :3]
    return se3.from_rotation_translation(rotations, motions[:, :3, 3] + origin - rotations @ origin)


def in_frame(landmarks: Landmarks, frame: MapFrame, target: MapFrame) -> Landmarks:
    """Landmarks of a map of coordinates `frame` in those of `target`."""
    positions = target.points_in_map(frame.points_in_world(landmarks.positions.double().numpy()))
    return replace(
        landmarks,
        positions=torch.from_numpy(positions).float(),
        distances=landmarks.distances * (frame.unit / target.unit),
    )


def find_alike(pairs: Sequence[tuple[int, int]], load: Callable[[int], Landmarks]) -> dict[int, AlikePlaces]:
    """The rivals of tiles, by number, for ascending pairs a <= b of tiles whose places may look alike.

    `load` reads the landmarks of a tile, in coordinates that all tiles share. A pair of a tile with itself
    finds places within it that look alike. Tiles without rivals are left out.
    """
    landmarks = lru_cache(_KEPT)(load)
    found: dict[int, list[AlikePlaces]] = {}
    for a, b in pairs:
        for motion in motions_between(landmarks(a), landmarks(b)):
            ways = [(a, b, motion), (b, a, se3.inverse(motion))]
            for here, there, way in ways[: 1 if a == b else 2]:
                shared = has_counterpart(landmarks(here), landmarks(there), way)
                one = AlikePlaces(torch.tensor([there]), way[None], shared[None])
                found.setdefault(here, []).append(one)
    return {number: joined(found[number]) for number in sorted(found)}


def similar_tiles(index: PlaceIndex, tiles: int, apart: float) -> list[tuple[int, int]]:
    """Ascending pairs a <= b of tiles that have similar views farther than `apart` from each other."""
    centers = index.centers
    counts = torch.zeros(tiles * tiles, dtype=torch.int64)
    for rows in torch.arange(len(centers)).split(_ROWS):
        similarity = index.descriptors[rows] @ index.descriptors.T
        similarity[exact_distances(centers[rows], centers) < apart] = -1
        best = similarity.topk(min(_SIMILAR, len(centers))).indices
        here, there = index.tiles[rows, None].expand_as(best), index.tiles[best]
        counts += torch.bincount((here * tiles + there).flatten(), minlength=tiles * tiles)
    pairs = counts.reshape(tiles, tiles)
    pairs = pairs + pairs.T
    found = (pairs.triu() >= _LEAST_SIMILAR).nonzero().tolist()
    return [(a, b) for a, b in found]


def motions_between(a: Landmarks, b: Landmarks) -> list[Tensor]:
    """Rigid motions [4, 4] from landmarks onto similar ones at another place."""
    source, target = similar_apart(a.select(slice(_COMPARED)), b.select(slice(_COMPARED)))
    tolerance = _TOLERANCE * viewing_distance(a)
    generator = torch.Generator().manual_seed(_SEED)
    motions: list[Tensor] = []
    while len(source) >= _LEAST and len(motions) < _MOST:
        motion = _best_motion(source, target, tolerance, generator)
        if int(_inliers(motion, source, target, tolerance).sum()) < _LEAST:
            break
        motions.append(motion)
        other = ~_inliers(motion, source, target, _SAME_MOTION * tolerance)
        source, target = source[other], target[other]
    return motions


def _best_motion(source: Tensor, target: Tensor, tolerance: float, generator: torch.Generator) -> Tensor:
    """The motion of most inliers: of triples of pairs, then fitted to all inliers."""
    triples = torch.randint(len(source), (8 * _SAMPLES, 3), generator=generator)
    from_sides, to_sides = (_sides(points[triples]) for points in (source, target))
    rigid = ((from_sides - to_sides).abs() < tolerance) & (from_sides > _WIDE * tolerance)
    triples = triples[rigid.all(1)][:_SAMPLES]
    if not len(triples):
        return torch.eye(4, dtype=torch.float64)
    motions = se3.rigid_motion(source[triples], target[triples])
    counts = torch.stack([_inliers(motion, source, target, tolerance).sum() for motion in motions])
    best = motions[int(counts.argmax())]
    for _ in range(_ROUNDS):
        near = _inliers(best, source, target, tolerance)
        if int(near.sum()) >= 3:
            best = se3.rigid_motion(source[near], target[near])
    return best


def _sides(triangles: Tensor) -> Tensor:
    """The lengths [T, 3] of the sides of triangles [T, 3, 3]."""
    return (triangles - triangles.roll(1, 1)).norm(dim=2)


def _inliers(motion: Tensor, source: Tensor, target: Tensor, tolerance: float) -> Tensor:
    return (se3.transform(motion, source) - target).norm(dim=1) < tolerance


def similar_apart(a: Landmarks, b: Landmarks) -> tuple[Tensor, Tensor]:
    """Positions [K, 3] of landmarks of a, and of those of b that are most like them, at another place."""
    source, target, apart = [], [], _APART * viewing_distance(a)
    for rows in torch.arange(len(a)).split(_ROWS):
        similarity = a.descriptors[rows] @ b.descriptors.T
        similarity[exact_distances(a.positions[rows], b.positions) < apart] = -1
        best, index = similarity.max(1)
        kept = best > _MIN_SIMILARITY
        source.append(a.positions[rows][kept].double())
        target.append(b.positions[index[kept]].double())
    return torch.cat(source), torch.cat(target)


def has_counterpart(here: Landmarks, there: Landmarks, motion: Tensor) -> Tensor:
    """Which landmarks [N] have a similar one beside them when `motion` [4, 4] moves them there."""
    radius = _COUNTERPART * viewing_distance(here)
    moved_there = se3.transform(motion, here.positions.double()).to(there.positions)
    found = torch.zeros(len(here), dtype=torch.bool)
    for rows in torch.arange(len(here)).split(_ROWS):
        distance = exact_distances(moved_there[rows], there.positions)
        near, other = (distance < radius).nonzero().unbind(1)
        cosine = (here.descriptors[rows[near]] * there.descriptors[other]).sum(1)
        found[rows[near[cosine > _SAME]]] = True
    return found
