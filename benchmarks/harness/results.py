"""Results as JSON, and the tables, pages and plots that are made from them.

There is one row per measurement, with the commit and the machine that it was made on. A row is a dictionary;
a few of its items identify it. A file is written after every row, so that a run that was stopped continues
where it ended. Tables stand between two marks of a page. All plots look alike: small panels, two in a row,
one legend below them, PNG without a date.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks import ROOT
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import atomic_path, read_json, write_text
from gsplatloc.utils.machine import describe, short_commit

Row = dict[str, Any]
# Which rows of an earlier run are not measured again: those of this commit, all, or none.
Keep = Literal["commit", "all", "none"]
_DIGITS = 5  # significant ones of every number
NONE = "–"  # a cell without a figure
_STYLE = {"font.size": 7, "axes.titlesize": 8, "axes.grid": True, "grid.alpha": 0.3}
_DPI = 160
_COLUMNS = 2  # of panels: a page of text shows them at about this size


@dataclass(frozen=True)
class RecordArguments:
    """Which results are measured again, and whether the documentation is written."""

    keep: Keep = "commit"
    """rows in --results that are not measured again: those of this commit, all, or none"""
    publish: bool = True
    """write the documentation's tables and plots at the end"""


class Record:
    """The rows in a file of results."""

    def __init__(self, path: Path, keep: Keep = "commit"):
        self.path = path
        self.rows: list[Row] = read_rows(path) if path.is_file() else []
        self._origin = origin_of(describe())
        self._keep = keep
        self._written: list[int] = []  # ids of this run's rows

    def find(self, **key: Any) -> Row | None:
        """The row with these items that need not be measured again."""
        row = self._row(key)
        if row is None or self._keep == "all" or id(row) in self._written:
            return row
        return row if self._keep == "commit" and row["commit"] == self._origin["commit"] else None

    def put(self, key: Row, figures: Row) -> Row:
        """Add a row, in place of an earlier one with the same `key`, and write the file."""
        row = _plain(key | figures | self._origin)
        earlier = self._row(key)
        if earlier is None:
            self.rows.append(row)
        else:
            self.rows[next(i for i, known in enumerate(self.rows) if known is earlier)] = row
        self._written.append(id(row))
        write_rows(self.path, self.rows)
        return row

    def _row(self, key: Row) -> Row | None:
        wanted = _plain(key)
        return next(
            (row for row in self.rows if all(row.get(name) == value for name, value in wanted.items())), None
        )


def origin_of(machine: Row) -> Row:
    """The commit and the machine that are stated in each row."""
    where = f"{_counted(machine['threads'], 'thread')} on {machine['name']}"
    digits, plus, _ = (machine["commit"] or "unknown").partition("+")
    return {"commit": digits[:10] + plus + ("changes" if plus else ""), "machine": where}


def origin_line(rows: Sequence[Row]) -> str:
    """One sentence for a page: the machines and commits of the rows."""
    found: dict[str, list[str]] = {}
    for row in rows:
        commits = found.setdefault(row["machine"], [])
        if short_commit(row["commit"]) not in commits:
            commits.append(short_commit(row["commit"]))
    parts = [f"{machine}, commit {' and '.join(commits)}" for machine, commits in found.items()]
    return f"Measured with {'; '.join(parts)}."


def read_rows(path: Path) -> list[Row]:
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("rows"), list):
        raise GSplatLocError(f"expected rows of results in {path}, found none: remove the file")
    return content["rows"]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """One row a line."""
    lines = ",\n".join(json.dumps(_plain(row), allow_nan=False, ensure_ascii=False) for row in rows)
    write_text(path, f'{{"rows": [\n{lines}\n]}}\n')


def _plain(value: Any) -> Any:
    """The value as JSON holds it: numbers rounded, None for those not finite, tuples as lists."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    return value


def _counted(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; nothing without rows."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) if len(lines) > 2 else ""


def number(value: float | None, digits: int = 0, factor: float = 1.0, unit: str = "") -> str:
    return NONE if value is None else f"{factor * value:.{digits}f}{unit}"


def percent(share: float | None, digits: int = 1) -> str:
    return number(share, digits, 100.0, " %")


def error_text(
    metres: float | None, degrees: float | None, digits: int = 3, extent: float | None = None
) -> str:
    """Centimetres and degrees; percent of the `extent` of the camera path in a scene that is not metric."""
    if metres is None or degrees is None:
        return NONE
    length = f"{100 * metres:.{digits}f} cm" if extent is None else f"{100 * metres / extent:.4f} %"
    return f"{length} / {degrees:.3f}°"


def marks(name: str) -> tuple[str, str]:
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def put_between_marks(page: Path, name: str, text: str) -> None:
    """Replace what a page holds between the two marks of `name`."""
    begin, end = marks(name)
    found = page.read_text(encoding="utf-8")
    if found.count(begin) != 1 or found.count(end) != 1:
        raise GSplatLocError(f"expected one '{begin}' and one '{end}' in {page}: put them back")
    head, _, rest = found.partition(begin)
    write_text(page, f"{head}{begin}\n\n{text.strip()}\n\n{end}{rest.partition(end)[2]}")


def publish(texts: Mapping[str, str], root: Path = ROOT) -> list[Path]:
    """Put each text between its marks, on every page of the documentation that has them.

    Raises `GSplatLocError` where no page has any of the marks.
    """
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    written = []
    for page in pages:
        content = page.read_text(encoding="utf-8") if page.is_file() else ""
        for name in [name for name in texts if marks(name)[0] in content]:
            put_between_marks(page, name, texts[name])
            written.append(page)
    if not written:
        raise GSplatLocError(f"expected a page with '{marks(next(iter(texts)))[0]}', found none: put it back")
    return written


@contextmanager
def saved_figure(path: Path, size: tuple[float, float]) -> Iterator[Figure]:
    """A figure of so many inches to draw on, written when the body ends."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
        yield figure
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def panels(
    path: Path, items: Sequence[Any], draw: Callable[[Axes, Any], None], size: tuple[float, float]
) -> None:
    """One panel of so many inches for each item, and their common legend."""
    columns = min(_COLUMNS, len(items))
    rows = math.ceil(len(items) / columns)
    with saved_figure(path, (size[0] * columns, size[1] * rows)) as figure:
        for index, item in enumerate(items, start=1):
            draw(figure.add_subplot(rows, columns, index), item)
        common_legend(figure)


def common_legend(figure: Figure, columns: int = 8) -> None:
    """Put the labels of all panels, each once, below them."""
    curves: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            curves.setdefault(label, handle)
    place = {"loc": "outside lower center", "ncols": min(len(curves), columns), "fontsize": 6}
    figure.legend(curves.values(), curves.keys(), **place)


def plain_log(axis: Axis) -> None:
    """Plain numbers on a logarithmic axis, few enough not to overlap."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
