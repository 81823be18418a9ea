"""Make a table of a paper again: `gsplatloc reproduce TABLE [--scenes ...] [--method ours|paper|both]`."""

from pathlib import Path

from gsplatloc.arguments.reproduce import ReproduceArguments
from gsplatloc.reproduction.run import Parallel, dry_run, reproduce
from gsplatloc.reproduction.workers import LocalWorkers, RayWorkers, Workers

_PART = (
    "from gsplatloc.reproduction.workers import end_with_parent; end_with_parent();"
    " from gsplatloc.cli import run; run('gsplatloc.cli.reproduce_part')"
)


def main(arguments: ReproduceArguments) -> None:
    """Run the command."""
    request = arguments.request()
    if arguments.dry_run:
        dry_run(request)
    else:
        reproduce(request, parallel_of(arguments))


def parallel_of(arguments: ReproduceArguments) -> Parallel | None:
    """The workers that were asked for; None for this process."""
    if not arguments.workers and arguments.ray is None:
        return None

    def start() -> Workers:
        if arguments.ray is not None:
            return RayWorkers(arguments.ray, arguments.cores)
        return LocalWorkers(arguments.workers)

    def words(part: Path) -> tuple[str, ...]:
        return ("-c", _PART, str(part.absolute()), *arguments.words())

    return Parallel(start, words, arguments.cores)
