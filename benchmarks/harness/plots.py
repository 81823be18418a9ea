"""The look of all plots: small panels, two in a row, one legend below them, PNG without a date."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from gsplatloc.utils.io import atomic_path

_STYLE = {"font.size": 7, "axes.titlesize": 8, "axes.grid": True, "grid.alpha": 0.3}
_DPI = 160
_COLUMNS = 2  # of panels: a page of text shows them at about this size


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
