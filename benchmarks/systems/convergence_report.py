"""The plot and the tables of the convergence benchmark."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes

from benchmarks.harness import ROOT
from benchmarks.harness.pages import error_text, number, percent, publish, table
from benchmarks.harness.plots import panels
from benchmarks.harness.record import Row, origin_line
from benchmarks.systems.sampled_poses import LEVELS

_MAX_ERROR_M, _MAX_ERROR_DEG = 0.05, 5.0  # of a success
_PANEL = (4.2, 3.2)  # inches

Error = tuple[float | None, float | None]  # metres, degrees; None where no pose was found


def publish_convergence(rows: Sequence[Row], root: Path = ROOT) -> list[Path]:
    """Write the tables, between the marks of `convergence`, and the plot below `root`."""
    scenes = list(dict.fromkeys(row["scene"] for row in rows))
    per_scene = [[row for row in rows if row["scene"] == scene] for scene in scenes]
    panels(root / "docs" / "images" / "convergence.png", per_scene, draw, _PANEL)
    tables = [
        text for found in per_scene for text in (convergence_table(found), retrieval_table(found)) if text
    ]
    return publish({"convergence": "\n\n".join([origin_line(rows), *tables])}, root)


def errors(rows: Iterable[Row], column: int | None = None) -> list[Error]:
    """All errors of some rows, or those in one column of their lists."""
    pairs = [list(zip(row["error_m"], row["error_deg"])) for row in rows]
    return [error for row in pairs for error in (row if column is None else row[column : column + 1])]


def succeeded(error: Error) -> bool:
    metres, degrees = error
    return metres is not None and degrees is not None and metres < _MAX_ERROR_M and degrees < _MAX_ERROR_DEG


def share(found: Sequence[Error]) -> float | None:
    """The share of successes; None without errors."""
    return sum(map(succeeded, found)) / len(found) if found else None


def per_level(rows: Sequence[Row]) -> list[float | None]:
    """Success at every level of overlap."""
    at: dict[int, list[Error]] = {}
    for row in rows:
        for level, error in zip(row["level"], errors([row]), strict=True):
            at.setdefault(level, []).append(error)
    return [share(at.get(level, [])) for level in range(len(LEVELS))]


def part(rows: Sequence[Row], name: str) -> dict[str, list[Row]]:
    """The rows of one part, by method."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row["part"] == name:
            found.setdefault(row["method"], []).append(row)
    return found


def draw(axes: Axes, rows: Sequence[Row]) -> None:
    """Success against overlap in one scene; variants dashed, the initial pose from landmarks dotted."""
    methods = part(rows, "poses")
    for name, found in methods.items():
        known = [(level, 100 * value) for level, value in zip(LEVELS, per_level(found)) if value is not None]
        axes.plot(*zip(*known), "--" if "," in name else "-", marker="o", ms=3, lw=1.2, label=name)
    for name, found in part(rows, "initial").items():
        axes.axhline(100 * (share(errors(found)) or 0.0), color="k", ls=":", lw=1, label=name)
    most = max((len(found) for found in methods.values()), default=0)
    axes.set(title=f"{rows[0]['scene']}, {most} images", ylim=(-2, 102),
             xlabel="3D IoU with the image's view", ylabel="within 5 cm and 5°, %")  # fmt: skip


def convergence_table(rows: Sequence[Row]) -> str:
    """One row per method: success at every level, errors of the successes, cost."""
    lines = [
        [name, str(len(found)), *(number(share, 0, 100) for share in per_level(found)), *_cost(found)]
        for name, found in part(rows, "poses").items()
    ]
    for name, found in part(rows, "initial").items():
        success = number(share(errors(found)), 0, 100)
        lines.append([name, str(len(found)), *len(LEVELS) * [success], *_cost(found)])
    levels = [f"{level:.2f}" for level in LEVELS]
    return table([rows[0]["scene"], "images", *levels, "errors of successes", "CPU ms"], lines)


def retrieval_table(rows: Sequence[Row]) -> str:
    """One row per method: success without and with virtual views, side by side."""
    methods = part(rows, "retrieval")
    if not methods:
        return ""
    every = [row for found in methods.values() for row in found]
    columns = range(len(every[0]["virtual_views"]))
    overlaps = [f"{median(row['overlap'][i] for row in every):.2f}" for i in columns]
    images = len({row["photo"] for row in every})
    lines = [["overlap of the retrieved view, median", str(images), *overlaps]]
    lines += [
        [name, str(len(found)), *(percent(share(errors(found, i)), 0) for i in columns)]
        for name, found in methods.items()
    ]
    title = f"{rows[0]['scene']}, retrieved among {every[0]['mapping_views']} views and so many virtual ones"
    return table([title, "images", *map(str, every[0]["virtual_views"])], lines)


def _cost(rows: Sequence[Row]) -> list[str]:
    """Median errors of the successes, and the median processor time of all."""
    good = [error for error in errors(rows) if succeeded(error)]
    metres, degrees = (median(error[i] or 0.0 for error in good) if good else None for i in (0, 1))
    return [error_text(metres, degrees, 2), f"{median(ms for row in rows for ms in row['cpu_ms']):.0f}"]
