"""Make a table of a paper again: `gsplatloc reproduce TABLE [--scenes ...] [--method ours|paper|both]`."""

from gsplatloc.arguments.reproduce import ReproduceArguments, parse_reproduce_arguments
from gsplatloc.reproduction.run import dry_run, reproduce


def main(arguments: ReproduceArguments | None = None) -> None:
    """Run the command; without `arguments` they are those of `sys.argv`."""
    arguments = arguments or parse_reproduce_arguments()
    request = arguments.request()
    if arguments.dry_run:
        dry_run(request)
    else:
        reproduce(request)
