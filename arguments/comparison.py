"""The command line of gsplatloc compare."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from gsplatloc.arguments.command_line import parse
from gsplatloc.localization.io import FOLDER_NAME, JSON_LINES_NAME, QUERIES_FOLDER_NAME
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.paths import require_output_file

EXAMPLES = ("gsplatloc compare my_map small_map --output comparison.html",)


@dataclass(frozen=True)
class CompareArguments:
    """The options of gsplatloc compare."""

    first: tyro.conf.Positional[Path]
    """folder of a map or of results of gsplatloc localize"""
    second: tyro.conf.Positional[Path]
    """the other one, of the same images"""
    output: Path | None = None
    """page to write (.html); unset = figures are only printed"""

    def check(self) -> None:
        """Raise `GSplatLocError` for a wrong path: before anything is loaded."""
        for folder in (self.first, self.second):
            queries_file(folder)
        require_output_file(self.output, "--output")


def queries_file(folder: Path) -> Path:
    """The localized queries in a folder of results, or of a map; raises `GSplatLocError` if it has none."""
    for candidate in (folder, folder / FOLDER_NAME, folder / QUERIES_FOLDER_NAME):
        if (candidate / JSON_LINES_NAME).is_file():
            return candidate / JSON_LINES_NAME
    raise GSplatLocError(
        f"expected {JSON_LINES_NAME} of gsplatloc localize in {folder}, found none: localize again"
    )


def parse_compare_arguments(argv: Sequence[str] | None = None) -> CompareArguments:
    """The arguments of a command line, `sys.argv` by default; wrong usage exits with code 2."""
    return parse(CompareArguments, "Compare two localizations of the same images.", argv, examples=EXAMPLES)
