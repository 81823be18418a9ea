"""The tables and plots of the accuracy benchmark, from its rows: one for each scene."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from benchmarks import ROOT
from benchmarks.harness.results import (
    NONE,
    Row,
    error_text,
    number,
    panels,
    percent,
    plain_log,
    publish,
    table,
)
from gsplatloc.utils.machine import short_commit

_RECALLS = ("5cm_5deg", "2cm_2deg", "1cm_1deg")
_RECALL_TITLES = ("5 cm 5°", "2 cm 2°", "1 cm 1°")
_PANEL = (3.6, 3.0)  # inches
_TITLES = {
    "pgt_7scenes_redkitchen": "RedKitchen",
    "colmap_south_building": "South Building",
    "nerf_fox": "Fox",
}
_COLORS = {"initial": "C0", "initial+lm": "C1", "initial+fine": "C2", "initial+fine+warp": "C3",
           "initial+warp": "C4"}  # fmt: skip
_RMS_PER_MEDIAN = 1.126  # of the length of a normal vector in three dimensions


def publish_accuracy(scenes: Sequence[Row], root: Path = ROOT) -> list[Path]:
    """Write the tables between the marks of `accuracy`, and the plots, below `root`."""
    plots = write_plots(scenes, root / "docs" / "images")
    parts = {
        "Beside the sparse baseline": comparison_table(scenes),
        "Maps": map_table(scenes),
        "Time and effect of each stage": stage_table(scenes),
        "Images of other places": rejection_table(scenes),
        "The initial pose, one choice changed at a time": ablation_table(scenes),
        "Expected and found errors": calibration_table(scenes),
        "Plots": "\n\n".join(f"![{title}](images/{name}.png)" for name, title in plots.items()),
    }
    sections = [f"## {title}\n\n{text}" for title, text in parts.items() if text]
    return publish({"accuracy": "\n\n".join([*_heads(scenes), *sections])}, root)


def _heads(scenes: Sequence[Row]) -> list[str]:
    """One sentence for each command, machine and commit."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for row in scenes:
        command = row.get("command", "python -m benchmarks accuracy")
        found.setdefault((command, row["machine"], short_commit(row["commit"])), []).append(row["scene"])
    return [
        f"{', '.join(names)}: measured by `{command}` with {machine}, commit {commit}."
        for (command, machine, commit), names in found.items()
    ]


def comparison_table(scenes: Sequence[Row]) -> str:
    """One row per scene and method: accuracy, bytes and milliseconds of a whole query."""
    rows = []
    for scene in scenes:
        name, chains = scene["scene"], scene["chains"]
        if chains:
            first, chain = chains[0]["stages"]["initial"], chains[0]
            cost = (chain["features_median_ms"] or 0) + (first["median_ms"] or 0)
            size = scene["mapping"]["landmark_bytes"]
            rows.append([name, "**ours, initial**", *_accuracy(scene, first),
                         f"{first['failed']}/{chain['count']}", number(cost), _megabytes(size)])  # fmt: skip
        methods = [(f"ours, {chain['chain'].replace('+', ' + ')}", chain, chain["final"]) for chain in chains]
        methods += [(f"sparse baseline, {kind}", found, found) for kind, found in scene["baselines"].items()]
        for label, figures, final in methods:
            bold = "**" if label == "ours, initial + lm" else ""
            rows.append([name, f"{bold}{label}{bold}", *_accuracy(scene, final),
                         f"{figures['failed']}/{figures['count']}", number(figures["total_median_ms"]),
                         _megabytes(figures["map_bytes"])])  # fmt: skip
    return table(["scene", "method", "median error", *_RECALL_TITLES, "failed", "ms", "map"], rows)


def map_table(scenes: Sequence[Row]) -> str:
    """Size of every map, and what it took to make it."""
    rows = []
    for scene in scenes:
        made = scene["mapping"]
        cost = NONE
        if made["seconds"] is not None:
            cost = f"{made['seconds'] / 60:.1f} min, {made['peak_bytes'] / 1e9:.1f} GB"
        rows.append([scene["scene"], _megabytes(made["landmark_bytes"]), _megabytes(made["bytes"]),
                     f"{made['gaussians']:,}", cost, short_commit(made["commit"]) if made["commit"] else NONE,
                     number(made["psnr"], 1, unit=" dB"), _depth(scene)])  # fmt: skip
    header = ["scene", "landmarks", "whole map", "Gaussians", "mapping", "at commit", "PSNR", "depth error"]
    text = table(header, rows)
    return text and text + "\n\nPSNR and depth error: of validation views."


def _depth(scene: Row) -> str:
    """Median distance from measured depth, and the share within 2 % of it."""
    error, share = scene["mapping"]["depth_error_m"], scene["mapping"]["depth_within_2"]
    if error is None or not scene["metric"]:
        return NONE
    return f"{100 * error:.1f} cm" + ("" if share is None else f", {percent(share)} within 2 %")


def stage_table(scenes: Sequence[Row]) -> str:
    """Milliseconds of each stage, and the share of queries whose error it increases."""
    rows = []
    for scene in scenes:
        rows.append(
            [scene["scene"], NONE, "decoding (not counted)", number(scene["decode_median_ms"]), *3 * [NONE]]
        )
        for chain in scene["chains"]:
            start = [scene["scene"], chain["chain"].replace("+", " + ")]
            rows.append([*start, "features", number(chain["features_median_ms"]), *3 * [NONE]])
            for name, stage in chain["stages"].items():
                effect = 3 * [NONE]
                if worse := chain["degraded"].get(name):
                    accepted = f"{stage['accepted']}/{chain['count']}"
                    effect = [accepted, percent(worse["at_all"]), percent(worse["clearly"])]
                rows.append([*start, name, number(stage["median_ms"]), *effect])
    header = ["scene", "chain", "stage", "ms", "accepted", "less accurate than initial", "clearly so"]
    text = table(header, rows)
    return text and text + '\n\n"Clearly": by more than a quarter of the initial poses\' median error.'


def rejection_table(scenes: Sequence[Row]) -> str:
    """How many images of other scenes got a pose in this one."""
    keys = ("photos", "accepted", "accepted_unknown_focal")
    rows = [[scene["scene"], *(str(scene["rejection"][key]) for key in keys)] for scene in scenes]
    return table(
        ["scene", "images of other scenes", "with a pose", "with a pose, focal length unknown"], rows
    )


def ablation_table(scenes: Sequence[Row]) -> str:
    """Accuracy, bytes and milliseconds of every variant of the initial pose."""
    rows = [
        [scene["scene"], row["label"], *_accuracy(scene, row), str(row["failed"]), number(row["ms"]),
         _megabytes(row["bytes"])]
        for scene in scenes for row in scene["ablation"]
    ]  # fmt: skip
    return table(["scene", "variant", "median error", *_RECALL_TITLES, "failed", "ms", "landmarks"], rows)


def calibration_table(scenes: Sequence[Row]) -> str:
    """Bins of equally many queries: errors that covariances predict, and actual errors."""
    rows = [
        [scene["scene"], stage, str(part["count"]), *(
            _error(scene, part[f"{kind}_translation_m"], part[f"{kind}_rotation_deg"])
            for kind in ("predicted", "actual")
        )]
        for scene in scenes for stage, part in _calibration_bins(scene)
    ]  # fmt: skip
    text = table(["scene", "stage", "queries", "expected", "found"], rows)
    return text and text + "\n\nFound: median of the bin, times 1.126, as for the length of a normal vector."


def _calibration_bins(scene: Row) -> Iterable[tuple[str, Row]]:
    chains = scene["chains"][:1]
    return [
        (name, part) for chain in chains for name, parts in chain["calibration"].items() for part in parts
    ]


def _accuracy(scene: Row, figures: Row) -> list[str]:
    """Median error and recalls; the latter only where the scene is metric."""
    recalls = [percent(figures["recall"][key]) if scene["metric"] else NONE for key in _RECALLS]
    return [_error(scene, figures["median_translation_m"], figures["median_rotation_deg"]), *recalls]


def _error(scene: Row, translation: float | None, rotation: float | None) -> str:
    """Centimetres where the scene is metric, else percent of the extent of the camera path."""
    text = error_text(translation, rotation, extent=None if scene["metric"] else scene["extent"])
    return "failed" if text == NONE else text


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.1f} MB"


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
