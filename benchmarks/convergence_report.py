"""The plot and the tables of benchmarks/convergence.py."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utils.io import atomic_path

Result = dict[str, Any]  # of one scene, as in the JSON

_PANEL = (4.2, 3.2)  # inches
_DPI = 100


def write_plot(scenes: Sequence[Result], path: Path) -> None:
    """Success against overlap, one panel per scene; ablations dashed, the prior dotted."""
    with matplotlib.rc_context({"font.size": 7, "axes.titlesize": 8, "axes.grid": True, "grid.alpha": 0.3}):
        figure = Figure(figsize=(_PANEL[0] * len(scenes), _PANEL[1]), dpi=_DPI, layout="constrained")
        for axes, scene in zip(np.atleast_1d(figure.subplots(1, len(scenes))), scenes, strict=True):
            draw(axes, scene)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def draw(axes: Axes, scene: Result) -> None:
    """The curves of one scene."""
    for name, figures in scene["methods"].items():
        known = [
            (level, 100 * value)
            for level, value in zip(scene["levels"], figures["success"], strict=True)
            if value is not None
        ]
        if known:
            style = "--" if "," in name else "-"
            axes.plot(*zip(*known, strict=True), style, marker="o", ms=3, lw=1.2, label=name)
    axes.axhline(100 * scene["prior"]["success"], color="k", ls=":", lw=1, label="sparse prior (no start)")
    axes.set(title=f"{scene['scene']}, {scene['photos']} photos", ylim=(-2, 102),
             xlabel="3D IoU of start and photo", ylabel="within 5 cm and 5°, %")  # fmt: skip
    axes.legend(fontsize=6)


def write_tables(scenes: Sequence[Result]) -> str:
    """Markdown: success per level of overlap, then retrieval with virtual views."""
    return "\n".join(part for scene in scenes for part in (convergence_table(scene), retrieval_table(scene)))


def convergence_table(scene: Result) -> str:
    """One row per method: success at every level, errors of the successes, cost."""
    header = [
        scene["scene"],
        *(f"{level:.2f}" for level in scene["levels"]),
        "errors of successes",
        "ms",
        "CPU ms",
    ]
    rows = [["starts", *(str(count) for count in scene["starts"]), "", "", ""]]
    rows += [
        [name, *(_percent(value) for value in figures["success"]), *_cost(figures)]
        for name, figures in scene["methods"].items()
    ]
    anywhere = _percent(scene["prior"]["success"])
    rows.append(["sparse prior", *([anywhere] * len(scene["levels"])), *_cost(scene["prior"])])
    return _table(header, rows)


def retrieval_table(scene: Result) -> str:
    """One row per number of virtual views."""
    rows = scene.get("retrieval", [])
    methods = [name for name in (rows[0] if rows else {}) if isinstance(rows[0][name], dict)]
    header = [scene["scene"], "views", "virtual views", "overlap of the start", *methods]
    lines = [
        ["", str(row["mapping_views"]), str(row["virtual_views"]), f"{np.median(row['overlap']):.2f}",
         *(f"{_percent(row[name]['success'])} %" for name in methods)]
        for row in rows
    ]  # fmt: skip
    return _table(header, lines) if lines else ""


def _cost(figures: Result) -> list[str]:
    metres, degrees = figures["median_error_m"], figures["median_error_deg"]
    errors = "–" if metres is None else f"{100 * metres:.2f} cm / {degrees:.3f}°"
    times = (figures[f"median_{key}"] for key in ("ms", "cpu_ms"))
    return [errors, *("–" if value is None else f"{value:.0f}" for value in times)]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
