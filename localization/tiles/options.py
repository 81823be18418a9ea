"""The options of the localizer of a map in tiles; a command line is parsed without torch."""

from dataclasses import dataclass

from gsplatloc.utils.errors import GSplatLocError


@dataclass(frozen=True)
class TileOptions:
    """Which tiles of a map are tried, and how many are kept in memory."""

    views: int = 10  # most similar mapping views, whose tiles are tried
    candidates: int = 3  # most tiles that are tried
    # Of the Gaussians and landmarks of loaded tiles; at least one tile is kept, and those of the places that
    # look alike which a query compares stay until it is localized.
    memory_mb: float = 512.0

    def __post_init__(self) -> None:
        if min(self.views, self.candidates) < 1 or not self.memory_mb > 0:
            raise GSplatLocError(
                "expected at least one view and one candidate, and a positive memory, found"
                f" {self.views}, {self.candidates} and {self.memory_mb}: see --tile_memory_mb"
            )
