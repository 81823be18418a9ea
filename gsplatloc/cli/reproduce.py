"""Make a table of a paper again: `gsplatloc reproduce TABLE [--scenes ...] [--method ours|paper|both]`."""

from gsplatloc.arguments.reproduce import parse_reproduce_arguments
from gsplatloc.reproduction.run import dry_run, reproduce


def main() -> None:
    arguments = parse_reproduce_arguments()
    request = arguments.request()
    if arguments.dry_run:
        dry_run(request)
    else:
        reproduce(request)
