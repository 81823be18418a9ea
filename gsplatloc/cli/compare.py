"""Compare two localizations of the same images: `gsplatloc compare OUT_A OUT_B`."""

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
    comparison = compare(first, second, (str(folders[0]), str(folders[1])), metric)
    log("\n".join(comparison_lines(comparison)))
    if arguments.output is not None:
        write_comparison(arguments.output, comparison)
        log(f"page     {arguments.output}")


def _is_metric(queries: Path) -> bool:
    """Whether results are in metres, by the figures beside them; a run that did not end has none."""
    path = queries.with_name("metrics.json")
    found = read_json(path) if path.is_file() else {}
    return not isinstance(found, dict) or found.get("metric", True) is not False
