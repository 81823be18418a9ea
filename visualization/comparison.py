"""Two localizations of the same images side by side: figures, and the images whose result changed most."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from gsplatloc.localization.evaluation import RECALL_THRESHOLDS, pose_error, quantile, recalls
from gsplatloc.localization.io.json_lines import Outcome
from gsplatloc.localization.result import Status
from gsplatloc.utils.console import figures, length
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import write_text
from gsplatloc.visualization import plots
from gsplatloc.visualization.report import RECALL_NAMES, axis_limit
from gsplatloc.visualization.style import PAGE, SORTABLE, html_table

_SAME = 0.02  # errors that differ by less than this share of the larger one are the same
_SHOWN = 10  # changes that are printed
_MINOR = ("between the poses", "rotation")  # columns that a narrow screen leaves out


@dataclass(frozen=True)
class Pair:
    """One image in both runs."""

    name: str
    first: Outcome
    second: Outcome

    @property
    def distance(self) -> tuple[float, float]:
        """Metres and degrees between both poses; infinite if one run has none, zero if neither has one."""
        poses = self.first.cam_from_world, self.second.cam_from_world
        if poses[0] is None or poses[1] is None:
            alone = math.inf if poses[0] is not poses[1] else 0.0
            return alone, alone
        between = pose_error(poses[0], poses[1])
        return between.translation_m, between.rotation_deg

    @property
    def change(self) -> int:
        """1 if the second run is more accurate, -1 if the first is, 0 if neither or without ground truth."""
        before, after = self.first.translation_error_m, self.second.translation_error_m
        if before is None or after is None or math.isclose(before, after, rel_tol=_SAME):
            return 0
        return 1 if after < before else -1


@dataclass(frozen=True)
class Comparison:
    """The images that both runs have, the most changed first, and the numbers of those of one run alone."""

    labels: tuple[str, str]
    pairs: Sequence[Pair]
    alone: tuple[int, int]
    metric: bool = True  # otherwise the unit of length is arbitrary

    @property
    def has_truth(self) -> bool:
        outcomes = [outcome for pair in self.pairs for outcome in (pair.first, pair.second)]
        return all(outcome.translation_error_m is not None for outcome in outcomes)

    def outcomes(self) -> dict[str, list[Outcome]]:
        """The outcomes of each run, by its label."""
        first, second = self.labels
        return {first: [pair.first for pair in self.pairs], second: [pair.second for pair in self.pairs]}


def compare(
    first: Mapping[str, Outcome],
    second: Mapping[str, Outcome],
    labels: tuple[str, str],
    metric: bool = True,
) -> Comparison:
    """Pair the images of two runs by name. Raises GSplatLocError if they have none in common."""
    names = [name for name in first if name in second]
    if not names:
        raise GSplatLocError(
            f"expected two results of the same images, found none in common in {labels[0]} ({len(first)})"
            f" and {labels[1]} ({len(second)}): localize the same images in both"
        )
    pairs = [Pair(name, first[name], second[name]) for name in names]
    pairs.sort(key=lambda pair: pair.distance, reverse=True)
    labels = labels if labels[0] != labels[1] else (f"{labels[0]} (first)", f"{labels[1]} (second)")
    return Comparison(labels, pairs, (len(first) - len(names), len(second) - len(names)), metric)


def comparison_lines(comparison: Comparison) -> list[str]:
    """The comparison as lines of text."""
    width = max(map(len, comparison.labels))
    lines = [f"{len(comparison.pairs)} images in both results{_alone(comparison)}"]
    header, rows = _table(comparison)
    lines.append(" " * width + "".join(f"{name:>12}" for name in header))
    lines += [f"{label:<{width}}" + "".join(f"{cell:>12}" for cell in cells) for label, cells in rows.items()]
    lines.append(_verdict(comparison))
    changed = [pair for pair in comparison.pairs if pair.distance > (0, 0)][:_SHOWN]
    lines += [f"  {pair.name}: {' -> '.join(_described(pair, comparison.metric))}" for pair in changed]
    return lines


def write_comparison(path: Path | str, comparison: Comparison) -> None:
    """Write the comparison as one HTML page that loads no other file, atomically."""
    header, rows = _table(comparison)
    header = [RECALL_NAMES.get(name, name) for name in header]
    summary = f"{len(comparison.pairs)} images{_alone(comparison)}. {_verdict(comparison)}."
    title = " and ".join(map(escape, comparison.labels))
    body = f"<header><h1>{title}</h1><p>{escape(summary)}</p></header>"
    body += _html_table("Figures", ["", *header], [[label, *cells] for label, cells in rows.items()])
    body += _curves(comparison)
    columns = ["image", *comparison.labels, "between the poses", "rotation"]
    body += _html_table(
        "Images, the most changed first",
        columns,
        [_cells(pair, comparison.metric) for pair in comparison.pairs],
    )
    title = "comparison of two localizations"
    write_text(path, PAGE.replace("{title}", title).replace("{body}", body + SORTABLE))


def _table(comparison: Comparison) -> tuple[list[str], dict[str, list[str]]]:
    """The names of the columns, and the cells of each run."""
    header = ["failed", "unverified", "ms"]
    if comparison.has_truth:
        thresholds = RECALL_THRESHOLDS if comparison.metric else ()  # of centimetres
        header = ["median cm" if comparison.metric else "median", "deg", *thresholds, *header]
    return header, {
        label: _figures(outcomes, comparison) for label, outcomes in comparison.outcomes().items()
    }


def _figures(outcomes: Sequence[Outcome], comparison: Comparison) -> list[str]:
    failed = sum(outcome.cam_from_world is None for outcome in outcomes)
    unverified = sum(outcome.status is Status.UNVERIFIED for outcome in outcomes)
    cells = [str(failed), str(unverified), f"{np.median([outcome.ms for outcome in outcomes]):.0f}"]
    if not comparison.has_truth:
        return cells
    translation, rotation = (
        _errors(outcomes, name) for name in ("translation_error_m", "rotation_error_deg")
    )
    median, degrees = quantile(translation, 0.5), f"{quantile(rotation, 0.5):.3f}"
    if not comparison.metric:
        return [f"{median:.5f}", degrees, *cells]
    shares = [f"{100 * share:.1f}%" for share in recalls(translation, rotation).values()]
    return [f"{100 * median:.3f}", degrees, *shares, *cells]


def _errors(outcomes: Sequence[Outcome], name: str) -> np.ndarray:
    values = (getattr(outcome, name) for outcome in outcomes)
    return np.array([math.inf if value is None else value for value in values])


def _verdict(comparison: Comparison) -> str:
    """How often which run is more accurate, and how probable that is if both are equally good."""
    if not comparison.has_truth:
        distances = np.array([pair.distance for pair in comparison.pairs])
        distance, degrees = (quantile(column, 0.5) for column in distances.T)
        apart = f"{length(distance, comparison.metric)}, {figures(degrees)} degrees"
        return f"median distance between the poses {apart}"
    changes = [pair.change for pair in comparison.pairs]
    better, worse, same = (changes.count(sign) for sign in (1, -1, 0))
    first, second = comparison.labels
    return (
        f"{second} is more accurate in {better} images, {first} in {worse}, none in {same} (differences"
        f" below {_SAME:.0%}); sign test p = {sign_test(better, worse):.2g}"
    )


def sign_test(better: int, worse: int) -> float:
    """The probability of a split at least as uneven as this one if both outcomes are equally likely."""
    count = better + worse
    tail = sum(math.comb(count, k) for k in range(min(better, worse) + 1)) / 2**count
    return min(1.0, 2 * tail)


def _alone(comparison: Comparison) -> str:
    parts = [f"{count} only in {label}" for count, label in zip(comparison.alone, comparison.labels) if count]
    return f", {', '.join(parts)}" if parts else ""


def _described(pair: Pair, metric: bool) -> tuple[str, str]:
    """Status and error of an image in both runs; without ground truth, the distance of the second pose."""
    first, second = (_error(outcome, metric) for outcome in (pair.first, pair.second))
    if not first and not second and math.isfinite(pair.distance[0]):
        second = f", {length(pair.distance[0], metric)} and {figures(pair.distance[1])}° away"
    return pair.first.status + first, pair.second.status + second


def _error(outcome: Outcome, metric: bool) -> str:
    error = outcome.translation_error_m
    return "" if error is None or not math.isfinite(error) else f", {length(error, metric)}"


def _cells(pair: Pair, metric: bool) -> list[str]:
    runs = [outcome.status + _error(outcome, metric) for outcome in (pair.first, pair.second)]
    distance, degrees = pair.distance
    if not math.isfinite(distance):
        return [pair.name, *runs, "–", "–"]
    return [pair.name, *runs, length(distance, metric), f"{figures(degrees)}°"]


def _html_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    table = html_table(header, rows, "queries sortable", minor=_MINOR)
    return f"<section><h2>{title}</h2><div class='scroll long'>{table}</div></section>"


def _curves(comparison: Comparison) -> str:
    if not comparison.has_truth:
        return ""
    outcomes = comparison.outcomes()
    scale, unit = (100, "cm") if comparison.metric else (1, "units")
    distances = {
        label: (scale * _errors(found, "translation_error_m")).tolist() for label, found in outcomes.items()
    }
    degrees = {label: _errors(found, "rotation_error_deg").tolist() for label, found in outcomes.items()}
    plotted = ((distances, f"position error, {unit}"), (degrees, "rotation error, degrees"))
    curves = (plots.error_curves(errors, label, axis_limit(errors)) for errors, label in plotted)
    cells = "".join(f"<figure>{curve}</figure>" for curve in curves)
    return f"<section><h2>Errors</h2><div class='plots'>{cells}</div></section>"
