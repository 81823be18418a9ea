"""The place that a query shows, of several that look alike. They are compared at corresponding poses.

The place where a pose was found is compared with each of its rivals, and the one that the query shows rather
with those of its own rivals that were not among them.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from torch import Tensor

from gsplatloc.localization.landmarks.rivals import same_place, viewing_distance
from gsplatloc.localization.queries import Query
from gsplatloc.localization.result import PoseEstimate
from gsplatloc.localization.tiles.comparison import View
from gsplatloc.localization.tiles.loaded import LoadedTile, LoadedTiles

_MOST_MOVES = 3  # from a place to a rival
_SAME_PLACE = 0.1  # viewing distances: poses nearer to each other are of one place


@dataclass(frozen=True, eq=False)
class Place:
    """A place that a query may show."""

    tile: LoadedTile
    estimate: PoseEstimate  # in the tile's coordinates
    world: Tensor  # [4, 4] float64, that pose in the world
    view: View

    def score(self, other: "Place") -> float:
        """Above 1 where the query shows this place rather than the other one, below -1 where it does not."""
        return self.view.preferred_to(other.view).score


def place_at(tile: LoadedTile, estimate: PoseEstimate, query: Query) -> Place:
    """The place at an estimate in the coordinates of a tile."""
    world = tile.frame.pose_in_world(estimate.pose().double())
    return Place(tile, estimate, world, View(query, tile.localizer.splat_map, tile.landmarks, estimate))


def shown(here: Place, tiles: LoadedTiles, similar: Collection[int]) -> tuple[Place, Place | None]:
    """The place that a query shows, of one and those like it; and its rival, if that is not clear.

    It is not clear either where the place still has rivals that were not compared after `_MOST_MOVES`.
    `similar`: tiles most similar to the query.
    """
    places, best, score = [here], here, cache(Place.score)
    for _ in range(_MOST_MOVES):
        before = best
        for place in _rivals(before, places, tiles, similar):
            places.append(place)
            if score(best, place) < 0:
                best = place
        if best is before:
            break
    else:
        if (unknown := next(_rivals(best, places, tiles, similar), None)) is not None:
            return best, unknown
    others = [place for place in places if place is not best]
    rival = min(others, key=lambda other: score(best, other), default=None)
    return best, None if rival is None or score(best, rival) > 1 else rival


def _rivals(
    here: Place, known: Sequence[Place], tiles: LoadedTiles, similar: Collection[int]
) -> Iterator[Place]:
    """The places that a query at `here` may show as well, without those that are known."""
    tile, landmarks = here.tile, here.tile.landmarks
    worlds = tile.rivals.corresponding(here.world)
    apart = _SAME_PLACE * viewing_distance(landmarks) * tile.frame.unit
    seen = [place.world for place in known]
    for number in tile.rivals.plausible(here.estimate, landmarks, similar):
        # Tiles overlap: a place that was compared in one is not compared in another.
        world = worlds[number]
        if any(same_place(world, other, apart) for other in seen):
            continue
        target = tiles[int(tile.rivals.tiles[number])]
        estimate = replace(here.estimate, cam_from_world=target.frame.pose_in_map(world))
        place = place_at(target, estimate, here.view.query)
        if place.view.covers(here.view):
            seen.append(world)
            yield place
