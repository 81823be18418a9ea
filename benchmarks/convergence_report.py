"""The plot and the tables of benchmarks/convergence.py."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.convergence_record import by_method, per_level, photos, share, summary
from benchmarks.legend import common_legend
from gsplatloc.utils.io import atomic_path

Result = dict[str, Any]  # of one scene, as in the JSON

_PANEL = (4.2, 3.2)  # inches
_DPI = 100


def write_plot(scenes: Sequence[Result], path: Path) -> None:
    """Success against overlap, one panel per scene; ablations dashed, the prior dotted."""
    with matplotlib.rc_context({"font.size": 7, "axes.titlesize": 8, "axes.grid": True, "grid.alpha": 0.3}):
        figure = Figure(figsize=(_PANEL[0] * len(scenes), _PANEL[1]), dpi=_DPI, layout="constrained")
        for axes, scene in zip(np.atleast_1d(figure.subplots(1, len(scenes))), scenes, strict=True):
            draw(axes, scene)
        common_legend(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def draw(axes: Axes, scene: Result) -> None:
    """The curves of one scene."""
    for name, rows in by_method(scene["runs"]).items():
        known = [(level, 100 * value) for level, value in zip(scene["levels"], per_level(rows), strict=True)
                 if value is not None]  # fmt: skip
        style = "--" if "," in name else "-"
        axes.plot(*zip(*known, strict=True), style, marker="o", ms=3, lw=1.2, label=name)
    if scene["prior_runs"]:
        anywhere = 100 * (share(scene["prior_runs"]) or 0.0)
        axes.axhline(anywhere, color="k", ls=":", lw=1, label="sparse prior (no start)")
    axes.set(title=f"{scene['scene']}, {photos(scene['runs'])} photos", ylim=(-2, 102),
             xlabel="3D IoU of start and photo", ylabel="within 5 cm and 5°, %")  # fmt: skip


def write_tables(scenes: Sequence[Result]) -> str:
    """Markdown: success per level of overlap, then retrieval with virtual views."""
    return "\n".join(part for scene in scenes for part in (convergence_table(scene), retrieval_table(scene)))


def convergence_table(scene: Result) -> str:
    """One row per method: success at every level, errors of the successes, cost."""
    if not scene["runs"]:
        return ""
    levels = [f"{level:.2f}" for level in scene["levels"]]
    header = [scene["scene"], "photos", *levels, "errors of successes", "CPU ms"]
    rows = [
        [name, str(photos(found)), *(_percent(value) for value in per_level(found)), *_cost(summary(found))]
        for name, found in by_method(scene["runs"]).items()
    ]
    initial = scene["prior_runs"]
    anywhere = [_percent(share(initial))] * len(levels)
    return _table(
        header, [*rows, ["sparse prior", str(photos(initial)), *anywhere, *_cost(summary(initial))]]
    )


def retrieval_table(scene: Result) -> str:
    """One row per method, success without and with virtual views side by side."""
    runs = scene["retrieval_runs"]
    if not runs:
        return ""
    counts = sorted({row["virtual_views"] for row in runs})
    split = {count: by_method([row for row in runs if row["virtual_views"] == count]) for count in counts}
    header = [f"{scene['scene']}, from {runs[0]['mapping_views']} views and virtual ones", "photos",
              *(str(count) for count in counts)]  # fmt: skip
    rows = [
        [name, str(photos(found)), *(f"{_percent(share(split[count].get(name, [])))} %" for count in counts)]
        for name, found in by_method(runs).items()
    ]
    overlaps = [
        np.median([row["overlap"] for found in split[count].values() for row in found]) for count in counts
    ]
    start = ["overlap of the start, median", str(photos(runs)), *(f"{overlap:.2f}" for overlap in overlaps)]
    return _table(header, [start, *rows])


def _cost(figures: Result) -> list[str]:
    metres, degrees, milliseconds = (figures[f"median_{key}"] for key in ("error_m", "error_deg", "cpu_ms"))
    errors = "–" if metres is None else f"{100 * metres:.2f} cm / {degrees:.3f}°"
    return [errors, "–" if milliseconds is None else f"{milliseconds:.0f}"]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
