"""How the rasterizer's time grows with Gaussians, pixels, channels and threads: numbers and a picture."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.raster import Setting
from benchmarks.suite_rasterizer import CASES, raster_probe, setting_of, with_channels
from benchmarks.yardstick import Figure, Protocol, measure
from gsplatloc.utils.io import atomic_path

_RGB, _FEATURES = CASES[0], replace(CASES[3], outputs=("rgb", "features"))
_SIZE = (640, 480)
_ROUNDS, _SECONDS = 5, 20.0  # per point

Curve = dict[str, list[float]]  # "x", and milliseconds: "forward", "backward"

TITLES = {
    "gaussians": "Gaussians (640x480, RGB)",
    "pixels": "pixels (cube-100k, RGB)",
    "channels": "feature channels (cube-100k, 640x480, full size)",
    "threads": "threads (cube-100k, 640x480, RGB)",
}


def measure_growth(threads: int) -> dict[str, Curve]:
    """The four curves, at fewer points than would make them pretty."""
    curves: dict[str, Curve] = {}
    for count in (10_000, 30_000, 100_000, 300_000, 1_000_000):
        _add(curves, "gaussians", count, setting_of(f"cube-{count}", *_SIZE, threads))
    for width in (160, 320, 640, 1280):
        setting = setting_of("cube-100k", width, width * 3 // 4, threads)
        _add(curves, "pixels", width * (width * 3 // 4), setting)
    setting = setting_of("cube-100k", *_SIZE, threads)
    for channels in (8, 16, 32, 64, 128):
        _add(curves, "channels", channels, with_channels(setting, channels))
    for number in _thread_counts():
        _add(curves, "threads", number, replace(setting, threads=number))
    return curves


def _thread_counts() -> list[int]:
    cores = os.cpu_count() or 1
    return sorted({cores, *(1 << power for power in range(8) if 1 << power <= cores)})


def _add(curves: dict[str, Curve], axis: str, x: float, setting: Setting) -> None:
    case = _FEATURES if axis == "channels" else _RGB
    probe = raster_probe(axis, case, setting)
    figures = measure([probe], Protocol(setting.threads, _ROUNDS, seconds=_SECONDS))
    curve = curves.setdefault(axis, {"x": [], "forward": [], "backward": []})
    curve["x"].append(x)
    for lap in ("forward", "backward"):
        figure: Figure = figures[f"{axis}: {lap}"]
        curve[lap].append(figure.median_ms)


def plot_growth(curves: Mapping[str, Curve], machine: Mapping[str, Any], path: Path) -> None:
    """Four panels, both axes logarithmic, written as a PNG."""
    from matplotlib.figure import Figure as Picture
    from matplotlib.ticker import LogLocator

    picture = Picture(figsize=(8, 6), layout="constrained")
    axes = picture.subplots(2, 2).flat
    for axis, (name, curve) in zip(axes, curves.items()):
        for lap, marker in (("forward", "o"), ("backward", "s")):
            axis.loglog(curve["x"], curve[lap], marker=marker, markersize=4, label=lap)
        axis.set_xlabel(TITLES[name])
        axis.set_ylabel("ms")
        axis.set_ylim(bottom=min(curve["forward"]) / 2, top=max(curve["backward"]) * 2)
        axis.set_xticks(curve["x"], [_short(value) for value in curve["x"]])
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
        axis.grid(True, which="major", alpha=0.3)
    picture.axes[0].legend()
    picture.suptitle(f"{machine['processor']}, {machine['isa']}, {machine['threads']} threads", fontsize=10)
    with atomic_path(path) as temporary:
        picture.savefig(temporary, dpi=90, format="png")


def _short(value: float) -> str:
    for unit, suffix in ((1_000_000, "M"), (1_000, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{suffix}"
    return f"{value:g}"
