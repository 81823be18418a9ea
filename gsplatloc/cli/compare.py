"""Compare two localizations of the same images: `gsplatloc compare OUT_A OUT_B`."""

import os
from pathlib import Path

from gsplatloc.arguments.comparison import CompareArguments, queries_file
from gsplatloc.localization.io.json_lines import read_outcomes
from gsplatloc.utils.console import log
from gsplatloc.utils.io import read_json
from gsplatloc.visualization.comparison import compare, comparison_lines, write_comparison


def main(arguments: CompareArguments) -> None:
    """Run the command."""
    folders = (arguments.first, arguments.second)
    files = [queries_file(folder) for folder in folders]
    first, second = map(read_outcomes, files)
    metric = all(map(_is_metric, files))
    comparison = compare(first, second, path_labels(*folders), metric)
    log("\n".join(comparison_lines(comparison)))
    if arguments.output is not None:
        write_comparison(arguments.output, comparison)
        log(f"page     {arguments.output}")


def path_labels(first: Path, second: Path) -> tuple[str, str]:
    """The paths without the folders that they have in common."""
    common = len(os.path.commonprefix([first.parts, second.parts]))
    names = [Path(*path.parts[common:]) for path in (first, second)]
    if not all(name.parts for name in names):  # one is within the other
        return str(first), str(second)
    return str(names[0]), str(names[1])


def _is_metric(queries: Path) -> bool:
    """Whether results are in metres, by the figures beside them; a run that did not end has none."""
    path = queries.with_name("metrics.json")
    found = read_json(path) if path.is_file() else {}
    return not isinstance(found, dict) or found.get("metric", True) is not False
