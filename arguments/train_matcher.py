"""The command line of gsplatloc train-matcher."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from gsplatloc.arguments.command_line import parse
from gsplatloc.mapping.options import MatcherTrainingOptions
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.paths import require_output_file


@dataclass(frozen=True)
class TrainMatcherArguments:
    """The options of gsplatloc train-matcher."""

    maps: tyro.conf.Positional[tuple[Path, ...]]
    """folders of maps; the images that they were made of must still be where they were"""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """file of the weights that is written, .safetensors"""
    photos: tuple[Path, ...] = ()
    """folders of photographs of other places, with or without poses"""
    held_out: Path | None = None
    """folder of a map of one more place, on which the learning curve is measured"""
    training: tyro.conf.OmitArgPrefixes[MatcherTrainingOptions] = field(
        default_factory=MatcherTrainingOptions
    )

    def check(self) -> None:
        """Raise `GSplatLocError` where there is nothing to learn from, or a folder is missing."""
        if not self.maps and not self.photos:
            raise GSplatLocError("expected maps or --photos to train on, found none: pass a map's folder")
        if self.held_out is not None and self.held_out in self.maps:
            raise GSplatLocError(
                f"expected --held_out to be another place than those trained on, found {self.held_out} among"
                " them: leave it out"
            )
        for folder in (*self.maps, *self.photos, *([self.held_out] if self.held_out else [])):
            if not folder.is_dir():
                raise GSplatLocError(f"expected a folder at {folder}, found none: correct the path")
        require_output_file(self.output, "--output")


def parse_train_matcher_arguments(argv: Sequence[str] | None = None) -> TrainMatcherArguments:
    """The arguments of a command line, `sys.argv` by default; wrong usage exits with code 2."""
    description = "Train the network that describes splats, for --initial gsvisloc."
    return parse(TrainMatcherArguments, description, argv)
