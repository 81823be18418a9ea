"""Plots as inline SVG in the colours of the surrounding page. Matplotlib is imported when a plot is drawn."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gsplatloc.localization.evaluation import ThresholdCurve

_TEXT = "#010203"  # replaced by the page's text colour
_LARGEST_FIGURE = 1e15
PALETTE = ("#2f81f7", "#f0883e", "#3fb950", "#db61a2", "#a371f7")


def error_curves(errors: Mapping[str, Sequence[float]], label: str, limit: float) -> str:
    """Share of queries below an error, one curve per stage; infinite errors keep a curve below 100 %.

    `label` names the quantity with its unit, `limit` is the right end of the axis in that unit.
    """
    figure, axes = _figure()
    for (name, values), color in zip(errors.items(), PALETTE):
        ordered = np.sort(np.asarray(values, float))
        share = 100 * np.arange(1, len(ordered) + 1) / max(len(ordered), 1)
        axes.step(
            [0, *ordered, limit * 2], [0, *share, share[-1]], where="post", color=color, label=name, lw=2
        )
    axes.set_xlim(0, limit)
    axes.set_ylim(0, 103)
    axes.set_xlabel(label)
    axes.set_ylabel("queries, %")
    _legend(axes, "lower right")
    return _svg(figure)


def threshold_curve(curve: ThresholdCurve, chosen: float) -> str:
    """Recall over falsely accepted queries as the threshold on the score varies; `chosen` is marked."""
    figure, axes = _figure()
    recall, false = (100 * np.array(share) for share in (curve.recall, curve.false))
    axes.step(false, recall, where="post", color=PALETTE[0], lw=2, label="threshold on the score")
    at = min(int(np.searchsorted(curve.thresholds, chosen)), len(recall) - 1)
    axes.plot(false[at], recall[at], "o", color=PALETTE[1], ms=8, label=f"default, {chosen:g}")
    axes.set_xlim(0, 1.05 * false.max() + 1)
    axes.set_ylim(0, 103)
    axes.set_xlabel("accepted, but off by more than 25 cm or 5°, % of queries")
    axes.set_ylabel("within 10 cm and 5°, %")
    _legend(axes, "lower right")
    return _svg(figure)


def training_curves(log_path: Path | str) -> str | None:
    """Loss and PSNR over the iterations of a training.jsonl; None if it has fewer than two entries."""
    entries = read_log(log_path)
    train = [entry for entry in entries if entry.get("kind") == "train"]
    if len(train) < 2:
        return None
    figure, axes = _figure()
    steps = [entry["iteration"] for entry in train]
    axes.plot(
        steps,
        [_number(entry.get("psnr")) for entry in train],
        color=PALETTE[0],
        lw=2,
        label="training views",
    )
    held_out = [entry for entry in entries if entry.get("kind") == "holdout"]
    if held_out:
        at, psnr = [e["iteration"] for e in held_out], [_number(e.get("psnr")) for e in held_out]
        axes.plot(at, psnr, "o-", color=PALETTE[2], lw=1.5, ms=5, label="held out")
    axes.set_xlabel("iteration")
    axes.set_ylabel("PSNR, dB")
    _legend(axes, "lower right")
    loss_axes = axes.twinx()
    loss = [_number(entry.get("loss")) for entry in train]
    loss_axes.plot(steps, loss, color=PALETTE[1], lw=1.5, alpha=0.7)
    loss_axes.set_ylim(bottom=0)
    _style(loss_axes, grid=False)
    loss_axes.set_ylabel("loss", color=PALETTE[1])
    return _svg(figure)


def read_log(path: Path | str) -> list[dict[str, Any]]:
    """The entries of a training.jsonl; a line that was cut short is skipped, a missing file has none."""
    path = Path(path)
    entries = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in text.splitlines():
        try:
            entries.append(json.loads(line))
        except (ValueError, RecursionError):
            continue
    return [entry for entry in entries if isinstance(entry, dict) and _number(entry.get("iteration")) >= 0]


def _figure() -> tuple[Any, Any]:
    """A figure outside of pyplot, which would keep it alive and may look for a screen."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 3.3), layout="constrained")
    axes = figure.add_subplot()
    _style(axes, grid=True)
    return figure, axes


def _style(axes: Any, grid: bool) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_TEXT)
        axes.spines[side].set_alpha(0.4)
    axes.tick_params(colors=_TEXT, labelsize=10, length=3, which="both")
    axes.xaxis.label.set_color(_TEXT)
    axes.yaxis.label.set_color(_TEXT)
    axes.patch.set_alpha(0)
    if grid:
        axes.grid(color=_TEXT, alpha=0.12, lw=0.8)


def _legend(axes: Any, place: str) -> None:
    axes.legend(loc=place, frameon=False, labelcolor=_TEXT, fontsize=10)


def _svg(figure: Any) -> str:
    import matplotlib

    figure.patch.set_alpha(0)
    text = io.StringIO()
    # Text stays text, set in the page's font; a fixed salt makes the same figure the same bytes.
    with matplotlib.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": "gsplatloc", "font.family": "sans-serif"}
    ):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :].replace(_TEXT, "currentColor")


def _number(value: Any) -> float:
    """A figure of a log that may be damaged; NaN if it is none that can be drawn."""
    known = isinstance(value, int | float) and abs(value) < _LARGEST_FIGURE
    return float(value) if known else float("nan")
