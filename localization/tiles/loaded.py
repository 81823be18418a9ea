"""Tiles in memory: loaded when they are first needed; those used longest ago are dropped beyond a budget."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from gsplatloc.localization.initial.landmarks import LandmarkPose
from gsplatloc.localization.landmarks.file import Landmarks
from gsplatloc.localization.landmarks.rivals import NONE_ALIKE, AlikePlaces, viewing_distance
from gsplatloc.localization.localizer import Localizer
from gsplatloc.scene.map_frame import MapFrame

_SAME_PLACE = 0.1  # viewing distances: poses nearer to each other are of one place


@dataclass(frozen=True)
class LoadedTile:
    """A tile in memory."""

    number: int
    localizer: Localizer
    rivals: AlikePlaces = NONE_ALIKE

    @cached_property
    def frame(self) -> MapFrame:
        """The coordinates of the tile's map in the world."""
        return self.localizer.splat_map.frame

    @property
    def landmarks(self) -> Landmarks:
        """Those of a localizer that begins with landmarks, without which there are no rivals."""
        assert isinstance(self.localizer.initial, LandmarkPose)
        return self.localizer.initial.landmarks

    @cached_property
    def apart(self) -> float:
        """World units: poses nearer to each other are of one place."""
        return _SAME_PLACE * viewing_distance(self.landmarks) * self.frame.unit

    def nbytes(self) -> int:
        """Bytes of its Gaussians and landmarks that are in memory."""
        size = self.localizer.splat_map.bytes_in_memory()
        if isinstance(self.localizer.initial, LandmarkPose):
            size += self.localizer.initial.landmarks.nbytes()
        return size + self.rivals.shared.nbytes


class LoadedTiles:
    """Tiles, loaded when they are first needed, with a budget of memory."""

    def __init__(self, load: Callable[[int], LoadedTile], memory_mb: float) -> None:
        self._load, self._memory = load, memory_mb * 1e6
        self._loaded: OrderedDict[int, LoadedTile] = OrderedDict()  # the one used last at the end
        self._lock = threading.Lock()
        self._dropped: dict[int, int] = {}  # bytes that were read of tiles that are no longer loaded

    def __getitem__(self, number: int) -> LoadedTile:
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
            loaded = {number: tile.localizer.splat_map.bytes_read() for number, tile in self._loaded.items()}
        return sum((self._dropped | loaded).values())

    def _drop(self) -> None:
        while len(self._loaded) > 1 and sum(tile.nbytes() for tile in self._loaded.values()) > self._memory:
            number, tile = self._loaded.popitem(last=False)
            self._dropped[number] = tile.localizer.splat_map.bytes_read()
