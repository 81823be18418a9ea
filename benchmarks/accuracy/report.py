"""The tables and plots of the accuracy benchmark, from its rows: one for each scene."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.accuracy.plots import write_plots
from benchmarks.harness import ROOT
from benchmarks.harness.pages import NONE, error_text, number, percent, publish, table
from benchmarks.harness.record import Row
from gsplatloc.utils.machine import short_commit

_RECALLS = ("5cm_5deg", "2cm_2deg", "1cm_1deg")
_RECALL_TITLES = ("5 cm 5°", "2 cm 2°", "1 cm 1°")


def publish_accuracy(scenes: Sequence[Row], root: Path = ROOT) -> list[Path]:
    """Write the tables, all at `accuracy` and each at its own mark, and the plots, below `root`."""
    plots = write_plots(scenes, root / "docs" / "images")
    parts = {
        "comparison": ("Beside the sparse baseline", comparison_table(scenes)),
        "maps": ("Maps", map_table(scenes)),
        "stages": ("Time and effect of each stage", stage_table(scenes)),
        "rejection": ("Images of other places", rejection_table(scenes)),
        "ablation": ("The initial pose, one choice changed at a time", ablation_table(scenes)),
        "calibration": ("Expected and found errors", calibration_table(scenes)),
        "plots": ("Plots", "\n\n".join(f"![{title}](images/{name}.png)" for name, title in plots.items())),
    }
    head = "\n\n".join(_heads(scenes))
    texts = {f"accuracy-{name}": text for name, (_, text) in parts.items() if text} | {"accuracy-head": head}
    sections = [f"## {title}\n\n{text}" for title, text in parts.values() if text]
    return publish({"accuracy": "\n\n".join([head, *sections]), **texts}, root)


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
