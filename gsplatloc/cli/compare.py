"""Compare two localizations of the same images: `gsplatloc compare OUT_A OUT_B`."""

from gsplatloc.arguments.comparison import CompareArguments, queries_file
from gsplatloc.localization.io.json_lines import read_outcomes
from gsplatloc.utils.console import log
from gsplatloc.visualization.comparison import compare, comparison_lines, write_comparison


def main(arguments: CompareArguments) -> None:
    """Run the command."""
    folders = (arguments.first, arguments.second)
    first, second = (read_outcomes(queries_file(folder)) for folder in folders)
    comparison = compare(first, second, (str(folders[0]), str(folders[1])))
    log("\n".join(comparison_lines(comparison)))
    if arguments.output is not None:
        write_comparison(arguments.output, comparison)
        log(f"page     {arguments.output}")
