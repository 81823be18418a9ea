"""How the rasterizer's time grows with Gaussians, pixels, channels and threads."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness.plots import saved_figure
from benchmarks.harness.yardstick import Protocol, measure
from benchmarks.performance.rasterizer import CASES, Case, RasterScene, load_scene, raster_probe

_RGB, _FEATURES = CASES[0], Case("features", ("rgb", "features"), 1)
_SIZE = (640, 480)
_ROUNDS, _SECONDS = 5, 20.0  # of each point

Curve = dict[str, list[float]]  # "x", and milliseconds: "forward", "backward"

TITLES = {
    "gaussians": "Gaussians (640x480, RGB)",
    "pixels": "pixels (cube-100k, RGB)",
    "channels": "feature channels (cube-100k, 640x480, full size)",
    "threads": "threads (cube-100k, 640x480, RGB)",
}


def measure_growth(threads: int) -> dict[str, Curve]:
    """The four curves."""
    curves: dict[str, Curve] = {}

    def add(axis: str, x: float, scene: RasterScene, case: Case = _RGB, count: int = threads) -> None:
        figures = measure(
            [raster_probe(scene, case, count, axis)], Protocol(count, _ROUNDS, seconds=_SECONDS)
        )
        curve = curves.setdefault(axis, {"x": [], "forward": [], "backward": []})
        curve["x"].append(x)
        for lap in ("forward", "backward"):
            curve[lap].append(figures[f"{axis}: {lap}"].median_ms)

    for number in (10_000, 30_000, 100_000, 300_000, 1_000_000):
        add("gaussians", number, load_scene(f"cube-{number}", *_SIZE))
    for width in (160, 320, 640, 1280):
        height = width * 3 // 4
        add("pixels", width * height, load_scene("cube-100k", width, height))
    scene = load_scene("cube-100k", *_SIZE)
    for channels in (8, 16, 32, 64, 128):
        add("channels", channels, scene.with_channels(channels), _FEATURES)
    cores = os.cpu_count() or 1
    for number in sorted({cores, *(1 << power for power in range(8) if 1 << power <= cores)}):
        add("threads", number, scene, count=number)
    return curves


def plot_growth(curves: Mapping[str, Curve], machine: Mapping[str, Any], path: Path) -> None:
    """Four panels, both axes logarithmic."""
    from matplotlib.ticker import LogLocator

    with saved_figure(path, (8, 6)) as figure:
        for axes, (name, curve) in zip(figure.subplots(2, 2).flat, curves.items()):
            for lap, marker in (("forward", "o"), ("backward", "s")):
                axes.loglog(curve["x"], curve[lap], marker=marker, markersize=4, label=lap)
            axes.set(xlabel=TITLES[name], ylabel="ms")
            axes.set_ylim(bottom=min(curve["forward"]) / 2, top=max(curve["backward"]) * 2)
            axes.set_xticks(curve["x"], [_short(value) for value in curve["x"]])
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
        figure.axes[0].legend()
        figure.suptitle(
            f"{machine['processor']}, {machine['isa']}, {machine['threads']} threads", fontsize=10
        )


def _short(value: float) -> str:
    for unit, suffix in ((1_000_000, "M"), (1_000, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{suffix}"
    return f"{value:g}"
