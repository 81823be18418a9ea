"""The tables of the RGB-D benchmark."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from benchmarks.harness import ROOT
from benchmarks.harness.pages import NONE, publish, table
from benchmarks.harness.plots import saved_figure
from benchmarks.harness.record import Row, origin_line

TRUTH, PUBLISHED = "ground truth", "gsplatloc (published)"

_MEANS = ("ate_rmse_unaligned_cm", "aae_unaligned_deg", "surface_mm")


def publish_rgbd(rows: Sequence[Row], root: Path = ROOT) -> list[Path]:
    """Write both tables, between the marks of `rgbd`, and the plot below `root`."""
    if series := [row for row in rows if row["part"] == "neighbours"]:
        draw_neighbours(root / "docs" / "images" / "rgbd-seams.png", series)
    parts = [origin_line(rows), trajectory_table(rows), discontinuity_table(rows)]
    return publish({"rgbd": "\n\n".join(part for part in parts if part)}, root)


def trajectory_table(rows: Sequence[Row]) -> str:
    """A row per method and data set: stretches are averaged, raw is without alignment."""
    grouped: dict[tuple[str, str], list[Row]] = {}
    stretches: dict[str, set[str]] = {}
    for row in rows:
        if row["part"] == "trajectory":
            name = row["sequence"].split(" ")[0]
            grouped.setdefault((name, row["method"]), []).append(row)
            stretches.setdefault(name, set()).add(row["sequence"])
    lines = []
    for (name, method), group in sorted(grouped.items(), key=lambda item: list(stretches).index(item[0][0])):
        whole = len(stretches[name])
        share = "" if len(group) == whole else f", {len(group)} of {whole} stretches"
        lines.append([name, method + share, *_averaged(group)])
    header = ["sequence", "method", "ATE, cm", "AAE, deg", "ATE of segments", "AAE of segments",
              "raw ATE, cm", "raw AAE, deg", "surface, mm", "frames/s"]  # fmt: skip
    return table(header, lines)


def _averaged(rows: Sequence[Row]) -> list[str]:
    """Means over the rows; segments are stated for a sequence on its own."""
    speeds = [row["frames_per_second"] for row in rows if row["frames_per_second"] is not None]
    segments = rows[0]["segments"] if len(rows) == 1 else []
    return [
        *(_mean(rows, key) for key in ("ate_rmse_cm", "aae_deg")),
        *(" / ".join(f"{segment[i]:.2f}" for segment in segments) for i in (0, 1)),
        *(_mean(rows, key) for key in _MEANS),
        f"{fmean(speeds):.1f}" if speeds else "",
    ]


def _mean(rows: Sequence[Row], key: str) -> str:
    """The mean over the rows with a figure: a straight path has no aligned angle."""
    known = [row[key] for row in rows if row[key] is not None]
    return f"{fmean(known):.2f}" if known else NONE


def discontinuity_table(rows: Sequence[Row]) -> str:
    """Agreement of two neighbouring frames in depth and contrast, along each trajectory."""
    cells: dict[str, dict[str, str]] = {}
    titles: list[str] = []
    for row in rows:
        if row["part"] == "discontinuity":
            frame = row["frame"]
            title = f"{row['sequence']}: {'all others' if frame is None else f'{frame - 1} to {frame}'}"
            titles += [title] if title not in titles else []
            cells.setdefault(row["along"], {})[title] = f"{row['depth_mm']:.2f} mm, {row['contrast']:.3f}"
    lines = [[along, *(found.get(title, "") for title in titles)] for along, found in cells.items()]
    return table(["along", *titles], lines)


def draw_neighbours(path: Path, rows: Sequence[Row]) -> None:
    """Plot the disagreement of depth of neighbouring frames along each trajectory."""
    with saved_figure(path, (6.4, 2.6)) as figure:
        axes = figure.subplots()
        for row in rows:
            frames = range(1, len(row["depth_mm"]) + 1)
            axes.semilogy(frames, row["depth_mm"], linewidth=0.8, label=f"along {row['along']}")
        axes.set(title=rows[0]["sequence"], xlabel="frame", ylabel="depth difference to the frame before, mm")
        axes.legend()
