"""Train the network of --initial gsvisloc: `gsplatloc train-matcher MAP... -o weights.safetensors`."""

import shlex
import sys
from pathlib import Path

from gsplatloc.arguments.train_matcher import TrainMatcherArguments
from gsplatloc.mapping.splat_matcher.train import train_matcher
from gsplatloc.utils.console import log
from gsplatloc.utils.machine import commit
from gsplatloc.utils.version import version


def main(arguments: TrainMatcherArguments) -> None:
    """Run the command."""
    record = {
        "version": version(),
        "commit": commit() or "unknown",
        "command": shlex.join(["gsplatloc", "train-matcher", *map(_relative, sys.argv[1:])]),
    }
    train_matcher(
        arguments.maps, arguments.photos, arguments.held_out, arguments.output, arguments.training, record
    )
    log(f"next       gsplatloc localize -m MAP --initial gsvisloc --gsvisloc.weights {arguments.output}")


def _relative(word: str) -> str:
    """A word of the command line; the last three parts of an absolute path, which is another's machine's."""
    path = Path(word)
    return str(Path(*path.parts[-3:])) if path.is_absolute() else word
