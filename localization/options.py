"""Options of the localizer. A command line is parsed with this module, which does not load torch."""

from dataclasses import dataclass
from typing import Any

from gsplatloc.localization.initial import DEFAULT_INITIAL
from gsplatloc.localization.refine import REFINERS
from gsplatloc.utils.errors import GSplatLocError

INITIAL = "initial"  # the first stage, whatever finds the initial pose


DEFAULT_STAGES = ("lm",)


@dataclass(frozen=True)
class LocalizerOptions:
    """The initial pose and the refinements that run, and their options."""

    initial: str = DEFAULT_INITIAL  # a name in `INITIAL_POSES`
    stages: tuple[str, ...] = DEFAULT_STAGES  # names in `REFINERS`, in the order in which they run
    # Options objects of the initial pose and of refinements, in any order; a method without one has defaults.
    settings: tuple[Any, ...] = ()
    top_k: int = 2048  # keypoints per query image
    max_side: int | None = None  # pixels of larger images, shrunk; None = the longest side of mapping images
    device: str = "auto"  # of network and map: auto (a GPU where one can be used), cpu, cuda or cuda:N
    # After `landmarks` and `gsvisloc`: search on where no refined pose was verified. Without a pose, only of
    # images with a known or probable focal length.
    fallback: bool = True
    quiet: bool = True  # do not print which device `auto` chose

    def __post_init__(self) -> None:
        if self.max_side is not None and self.max_side < 1:
            raise GSplatLocError(
                f"expected a positive number of pixels, found {self.max_side}: see --max_side"
            )

    def refinements(self) -> tuple[str, ...]:
        """The names of the refinements, without a leading "initial" or "prior".

        Raises `GSplatLocError` for unknown and repeated names.
        """
        stages = self.stages[1:] if self.stages[:1] in ((INITIAL,), ("prior",)) else self.stages
        if len(set(stages)) < len(stages) or not set(stages) <= set(REFINERS.names()):
            raise GSplatLocError(
                f"expected refinements out of {', '.join(REFINERS.names())}, each once,"
                f" found {', '.join(stages)}: see --stages"
            )
        return stages

    def chain(self) -> tuple[str, ...]:
        """The names of all stages, the initial pose first."""
        return (INITIAL, *self.refinements())
