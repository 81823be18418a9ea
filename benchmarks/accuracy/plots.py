"""The plots of the accuracy benchmark: error distributions, accuracy against size and time, calibration."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from benchmarks.harness.plots import panels, plain_log
from benchmarks.harness.record import Row

_PANEL = (3.6, 3.0)  # inches
_TITLES = {
    "pgt_7scenes_redkitchen": "RedKitchen",
    "colmap_south_building": "South Building",
    "nerf_fox": "Fox",
}
_COLORS = {"initial": "C0", "initial+lm": "C1", "initial+fine": "C2", "initial+fine+warp": "C3",
           "initial+warp": "C4"}  # fmt: skip
_RMS_PER_MEDIAN = 1.126  # of the length of a normal vector in three dimensions


def write_plots(scenes: Sequence[Row], folder: Path) -> dict[str, str]:
    """Write every plot as PNG, one panel for each scene; returns their titles by name."""
    plots = {
        "accuracy-cdf": (draw_cdf, "Share of queries below an error"),
        "accuracy-size": (draw_size, "Median error against map size"),
        "accuracy-time": (draw_time, "Median error against time per query"),
        "accuracy-calibration": (draw_calibration, "Found against expected errors"),
    }
    for name, (draw, _) in plots.items():

        def titled(axes: Axes, scene: Row, draw: object = draw) -> None:
            draw(axes, scene)  # type: ignore[operator]
            axes.set_title(_title(scene["scene"]))

        panels(folder / f"{name}.png", scenes, titled, _PANEL)
    return {name: title for name, (_, title) in plots.items()}


def _title(name: str) -> str:
    """What a panel shows, from the name of a scene or of a part of it (`SceneVariant`)."""
    place, _, percent = name.partition("-first")
    return _TITLES.get(place, place) + (f", mapped from its first {percent} %" if percent else "")


def draw_cdf(axes: Axes, scene: Row) -> None:
    """Cumulative distribution of the translation error of every method; failures never arrive at 1."""
    chains = scene["chains"]
    curves = {"initial": chains[0]["errors_m"]["initial"]} if chains else {}
    curves |= {chain["chain"]: list(chain["errors_m"].values())[-1] for chain in chains}
    curves |= {f"baseline, {kind}": [error[0] for error in found["errors"]]
               for kind, found in scene["baselines"].items()}  # fmt: skip
    for name, errors in curves.items():
        found = np.sort([in_unit(scene, error) for error in errors if error is not None])
        style = "--" if name.startswith("baseline") else "-"
        share = np.arange(1, len(found) + 1) / max(len(errors), 1)
        axes.step(found, share, style, where="post", label=name, color=_color(name), lw=1.2)
    axes.set(xscale="log", ylim=(0, 1.02), xlabel=f"error, {unit(scene)}", ylabel="share of queries")
    plain_log(axes.xaxis)


def draw_size(axes: Axes, scene: Row) -> None:
    """Initial poses from fewer landmarks, chains of stages with what they read, the baseline."""
    _draw_cost(axes, scene, "bytes", "landmarks", ("map_bytes", 1e-6), "map, MB")


def draw_time(axes: Axes, scene: Row) -> None:
    """Initial poses from fewer keypoints, chains of stages, the baseline."""
    _draw_cost(axes, scene, "ms", "keypoints", ("total_median_ms", 1.0), "ms per query")


def _draw_cost(axes: Axes, scene: Row, cost: str, varied: str, total: tuple[str, float], xlabel: str) -> None:
    """Median error against a cost: a curve of variants of the initial pose, a point for each method."""
    key, scale = total
    variants = [row for row in scene["ablation"] if varied in row["label"] or row["label"] == "default"]
    curve = sorted((scale * row[cost], in_unit(scene, row["median_translation_m"])) for row in variants)
    if curve:
        axes.plot(*zip(*curve), "o-", ms=3, lw=1, label=f"initial, {varied} varied", color="C0")
    points = [(chain["chain"], "s", chain[key], chain["final"]) for chain in scene["chains"]]
    points += [(f"baseline, {kind}", "x", found[key], found) for kind, found in scene["baselines"].items()]
    for name, marker, x, figures in points:
        y = in_unit(scene, figures["median_translation_m"])
        if math.isfinite(y):
            axes.plot([scale * x], [y], marker, ms=5, label=name, color=_color(name))
    axes.set(xscale="log", xlabel=xlabel, ylabel=f"median error, {unit(scene)}")
    axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
    plain_log(axes.xaxis)


def draw_calibration(axes: Axes, scene: Row) -> None:
    """Found against expected error of every query after the first chain's initial pose and last stage."""
    chain = scene["chains"][0] if scene["chains"] else {"errors_m": {}}
    for index, (stage, errors) in enumerate(chain["errors_m"].items()):
        both = zip(chain["stated_m"][stage], errors)
        pairs = [
            (in_unit(scene, stated), in_unit(scene, error)) for stated, error in both if stated and error
        ]
        if not pairs:
            continue
        stated, found = np.array(sorted(pairs)).T
        axes.plot(stated, found, ".", ms=3, alpha=0.5, color=f"C{index}")
        bins = [part for part in np.array_split(np.arange(len(stated)), 5) if len(part)]
        axes.plot([np.median(stated[part]) for part in bins],
                  [_RMS_PER_MEDIAN * np.median(found[part]) for part in bins], "o-", ms=4, color=f"C{index}",
                  label=f"{stage}, bins of equal count")  # fmt: skip
    axes.set(xscale="log", yscale="log")  # before the limits are read: linear ones begin below zero
    low, high = min(axes.get_xlim()[0], axes.get_ylim()[0]), max(axes.get_xlim()[1], axes.get_ylim()[1])
    axes.plot([low, high], [low, high], "k:", lw=1)
    axes.set(
        xlim=(low, high),
        ylim=(low, high),
        xlabel=f"expected error, {unit(scene)}",
        ylabel=f"found error, {unit(scene)}",
    )
    plain_log(axes.xaxis)
    plain_log(axes.yaxis)


def _color(name: str) -> str:
    return _COLORS.get(name, "k")


def unit(scene: Row) -> str:
    return "cm" if scene["metric"] else "% of the path's extent"


def in_unit(scene: Row, error: float | None) -> float:
    """Scene units -> centimetres, or percent of the path's extent where the scene is not metric."""
    return math.inf if error is None else 100 * error / (1.0 if scene["metric"] else scene["extent"])
