"""The place that a query shows, of several that look alike. They are compared at corresponding poses.

The place where a pose was found is compared with each of its rivals, and the one that the query shows rather
with those of its own rivals that were not among them. Where that is not clear, the most similar ones are
compared again when the pose is refined, by all pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from gsplatloc.localization.landmarks.rivals import same_places
from gsplatloc.localization.queries import Query
from gsplatloc.localization.result import PoseEstimate
from gsplatloc.localization.tiles.comparison import COARSE, FINE, Scale, View, distinct
from gsplatloc.localization.tiles.loaded import LoadedTile, LoadedTiles
from gsplatloc.utils import se3

_MOST_MOVES = 3  # from a place to a rival
# Rivals of other kinds that are compared by landmarks, and the factor of similarity from which one is
# likelier. Of 260 images (building of seed 3, 26 rooms), 26 were found first in a room of other furniture.
# The right kind is likelier by 1.2 in 25 of them, and a wrong one in none of the others.
_OTHER_KINDS, _LIKELIER = 6, 1.2
_CLEAR = 1.5  # score above which a place is preferred to a rival by the first comparison
_DECIDED = 1.0  # likewise, by all pixels
_CLOSELY = 7  # most rivals that are compared by all pixels


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


@dataclass(frozen=True)
class Choice:
    """The place that a query shows, and its rivals, the one that looks most like the query first."""

    place: Place
    rivals: list[Place]
    clear: bool
    complete: bool = True  # whether all rivals were compared

    def instead(self, place: Place) -> "Choice":
        """The choice of another of its places, if it is another one: then it is not clear."""
        if place is self.place:
            return self
        rivals = [self.place, *(rival for rival in self.rivals if rival is not place)]
        return Choice(place, rivals, False, self.complete)


def place_at(tile: LoadedTile, estimate: PoseEstimate, query: Query, scale: Scale = COARSE) -> Place:
    """The place at an estimate in the coordinates of a tile."""
    world = tile.frame.pose_in_world(estimate.pose().double())
    return Place(
        tile, estimate, world, View(query, tile.localizer.splat_map, tile.landmarks, estimate, scale)
    )


def likelier(here: Place, tiles: LoadedTiles) -> Place | None:
    """A corresponding place of another kind that the keypoints match clearly better, if there is one."""
    matched, least = here.view.pairs.index_b.cpu(), _LIKELIER * float(here.view.similarities.sum())
    rivals = here.tile.rivals
    worlds = rivals.corresponding(here.world)
    for number in rivals.of_other_kinds(here.estimate, here.tile.landmarks, matched)[:_OTHER_KINDS]:
        place = _at(worlds[number], tiles[int(rivals.tiles[number])], here)
        if float(place.view.similarities.sum()) > least:
            return place
    return None


def shown(here: Place, tiles: LoadedTiles) -> Choice:
    """The place that a query shows, of one and those like it.

    It is not clear where a rival is hardly less similar, nor where the place still has rivals that were not
    compared after `_MOST_MOVES`.
    """
    places, best, score = [here], here, cache(Place.score)
    for _ in range(_MOST_MOVES):
        before = best
        for place in _rivals(before, places, tiles):
            places.append(place)
            if score(best, place) < 0:
                best = place
        if best is before:
            break
    else:
        if (unknown := next(_rivals(best, places, tiles), None)) is not None:
            return Choice(best, [unknown], False, False)
    rivals = sorted((place for place in places if place is not best), key=lambda other: score(best, other))
    return Choice(best, rivals, not rivals or score(best, rivals[0]) > _CLEAR)


def shown_closely(here: Place, before: Choice) -> Choice:
    """The choice again by all pixels, for `here`, a better pose in the place that was chosen before.

    It is not complete where a rival that is left out was not clearly less similar.
    """
    moved = here.world @ se3.inverse(before.place.world)
    found = [_at(moved @ rival.world, rival.tile, here, FINE) for rival in before.rivals[:_CLOSELY]]
    places = [here, *(place for place in found if place.view.covers(here.view))]
    weight = distinct([place.view.rendered for place in places])

    def score(place: Place, other: Place) -> float:
        return place.view.preferred_to(other.view, weight).score

    best = here
    for place in places[1:]:
        if score(best, place) < 0:
            best = place
    rivals = sorted((place for place in places if place is not best), key=lambda other: score(best, other))
    left_out = before.rivals[_CLOSELY:]
    complete = before.complete and all(before.place.score(rival) > _CLEAR for rival in left_out)
    clear = complete and (not rivals or score(best, rivals[0]) > _DECIDED) and best.view.explained
    return Choice(best, rivals or before.rivals, clear, complete)


def _at(world: Tensor, tile: LoadedTile, here: Place, scale: Scale = COARSE) -> Place:
    """The place of a tile at a pose in the world, of the query at `here`."""
    estimate = replace(here.estimate, cam_from_world=tile.frame.pose_in_map(world))
    return place_at(tile, estimate, here.view.query, scale)


def _rivals(here: Place, known: Sequence[Place], tiles: LoadedTiles) -> Iterator[Place]:
    """The places that a query at `here` may show as well, without those that are known."""
    tile, landmarks = here.tile, here.tile.landmarks
    numbers = tile.rivals.plausible(here.estimate, landmarks)
    worlds = tile.rivals.corresponding(here.world)[numbers]
    # Tiles overlap: a place that was compared in one is not compared in another.
    equal = same_places(worlds, worlds, tile.apart)
    seen = same_places(worlds, torch.stack([place.world for place in known]), tile.apart).any(1)
    for row, number in enumerate(numbers):
        if seen[row]:
            continue
        place = _at(worlds[row], tiles[int(tile.rivals.tiles[number])], here)
        if place.view.covers(here.view):
            seen |= equal[row]
            yield place
