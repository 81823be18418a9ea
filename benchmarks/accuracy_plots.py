"""The plots of docs/results.md: error distributions, accuracy against size and time, calibration."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.legend import common_legend

Result = dict[str, Any]  # of one scene, as in the JSON

_PANEL = (3.6, 3.0)  # inches
_DPI = 100
_COLORS = {
    "initial": "C0",
    "initial+lm": "C1",
    "prior+fine": "C2",
    "prior+fine+warp": "C3",
    "prior+warp": "C4",
}
_RMS_PER_MEDIAN = 1.126  # of the length of a normal vector in three dimensions


def write_plots(results: Sequence[Result], folder: Path) -> list[tuple[Path, str]]:
    """Write every plot as PNG; returns their paths and titles."""
    folder.mkdir(parents=True, exist_ok=True)
    plots = {
        "accuracy-cdf": (draw_cdf, "Share of queries below an error"),
        "accuracy-size": (draw_size, "Median error against map size"),
        "accuracy-time": (draw_time, "Median error against time per query"),
        "accuracy-calibration": (draw_calibration, "Found against stated errors"),
    }
    written = []
    for name, (draw, title) in plots.items():
        with matplotlib.rc_context(
            {"font.size": 7, "axes.titlesize": 8, "axes.grid": True, "grid.alpha": 0.3}
        ):
            figure = Figure(figsize=(_PANEL[0] * len(results), _PANEL[1]), dpi=_DPI, layout="constrained")
            for axes, result in zip(np.atleast_1d(figure.subplots(1, len(results))), results, strict=True):
                draw(axes, result)
                axes.set_title(result["scene"])
            common_legend(figure)
        path = folder / f"{name}.png"
        figure.savefig(path, metadata={"Software": None})
        written.append((path, title))
    return written


def draw_cdf(axes: Axes, result: Result) -> None:
    """Cumulative distribution of the translation error of every method; failures never arrive at 1."""
    curves = {}
    if result["chains"]:
        curves["initial"] = [query["stages"][0][0] for query in result["chains"][0]["queries"]]
    curves |= {
        chain["chain"]: [query["stages"][-1][0] for query in chain["queries"]] for chain in result["chains"]
    }
    curves |= {
        f"baseline, {kind}": [error[0] for error in figures["errors"]]
        for kind, figures in result["baselines"].items()
    }
    for name, errors in curves.items():
        found = np.sort([in_unit(result, error) for error in errors if error is not None])
        style = "--" if name.startswith("baseline") else "-"
        share = np.arange(1, len(found) + 1) / len(errors)
        axes.step(found, share, style, where="post", label=name, color=_color(name), lw=1.2)
    axes.set(xscale="log", ylim=(0, 1.02), xlabel=f"error, {unit(result)}", ylabel="share of queries")
    _readable(axes.xaxis)


def draw_size(axes: Axes, result: Result) -> None:
    """Maps with fewer landmarks, those that the refinements need, the baseline's."""
    cuts = [row for row in result["ablation"] if "landmarks" in row["label"] or row["label"] == "as it is"]
    cuts.sort(key=lambda row: row["bytes"])
    _curve(
        axes,
        result,
        [(row["bytes"] / 1e6, row["median_translation_m"]) for row in cuts],
        "prior, fewer landmarks",
    )
    for chain in result["chains"]:
        size = result["bytes"]["initial+lm" if chain["chain"] == "initial+lm" else "everything"]
        _point(axes, result, size / 1e6, chain["final"]["median_translation_m"], chain["chain"])
    for kind, figures in result["baselines"].items():
        size = figures["map_bytes"] / 1e6
        _point(axes, result, size, figures["median_translation_m"], f"baseline, {kind}", "x")
    _cost_axes(axes, "map, MB", result)


def draw_time(axes: Axes, result: Result) -> None:
    """Variants of the prior, chains of stages, the baseline."""
    counts = [row for row in result["ablation"] if "keypoints" in row["label"] or row["label"] == "as it is"]
    counts.sort(key=lambda row: row["ms"])
    _curve(
        axes,
        result,
        [(row["ms"], row["median_translation_m"]) for row in counts],
        "prior, 512 to 4096 keypoints",
    )
    for chain in result["chains"]:
        _point(axes, result, chain["total_median_ms"], chain["final"]["median_translation_m"], chain["chain"])
    for kind, figures in result["baselines"].items():
        cost = figures["total_median_ms"]
        _point(axes, result, cost, figures["median_translation_m"], f"baseline, {kind}", "x")
    _cost_axes(axes, "ms per query", result)


def draw_calibration(axes: Axes, result: Result) -> None:
    """Found against stated error of every query after the prior and after the first chain's last stage."""
    if not result["chains"]:
        return
    chain = result["chains"][0]
    names = list(chain["stages"])
    for column in sorted({0, len(names) - 1}):
        rows = [query["stages"][column] for query in chain["queries"]]
        pairs = [(in_unit(result, row[2]), in_unit(result, row[0])) for row in rows if row[2] and row[0]]
        if not pairs:
            continue
        stated, found = np.array(sorted(pairs)).T
        color = f"C{column}"
        axes.plot(stated, found, ".", ms=3, alpha=0.5, color=color)
        bins = [part for part in np.array_split(np.arange(len(stated)), 5) if len(part)]
        axes.plot([np.median(stated[part]) for part in bins],
                  [_RMS_PER_MEDIAN * np.median(found[part]) for part in bins], "o-", ms=4, color=color,
                  label=f"{names[column]}, bins of equal count")  # fmt: skip
    low, high = min(axes.get_xlim()[0], axes.get_ylim()[0]), max(axes.get_xlim()[1], axes.get_ylim()[1])
    ends = [max(low, high / 1000), high]
    axes.plot(ends, ends, "k:", lw=1)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel=f"stated error, {unit(result)}",
        ylabel=f"found error, {unit(result)}",
    )
    _readable(axes.xaxis)
    _readable(axes.yaxis)


def _color(name: str) -> str:
    """Of a method, by its name up to a comma; black for the baseline."""
    return _COLORS.get(name.partition(",")[0], "k")


def _cost_axes(axes: Axes, xlabel: str, result: Result) -> None:
    """Median error from zero, with room for the worst, against what it costs."""
    axes.set(xscale="log", xlabel=xlabel, ylabel=f"median error, {unit(result)}")
    axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
    _readable(axes.xaxis)


def _readable(axis: Axis) -> None:
    """Plain numbers on a logarithmic axis, few enough not to overlap."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 30 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def unit(result: Result) -> str:
    return "cm" if result["metric"] else "% of the path's extent"


def in_unit(result: Result, error: float) -> float:
    """Scene units -> centimetres, or percent of the path's extent where there is no scale."""
    return 100 * error / (1.0 if result["metric"] else result["extent"])


def _curve(axes: Axes, result: Result, points: Sequence[tuple[float, float | None]], label: str) -> None:
    known = [(x, in_unit(result, error)) for x, error in points if error is not None and math.isfinite(error)]
    if known:
        axes.plot(*zip(*known, strict=True), "o-", ms=3, lw=1, label=label, color=_color(label))


def _point(axes: Axes, result: Result, x: float, error: float | None, label: str, marker: str = "s") -> None:
    if error is not None and math.isfinite(error):
        axes.plot([x], [in_unit(result, error)], marker, ms=5, label=label, color=_color(label))
