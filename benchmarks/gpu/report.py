"""Gathers what the steps of gpu.sh left into <gpu>-<date>.json, beside the goals; all logs into gpu.log."""

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tyro

from gsplatloc.utils.device import torch_device
from gsplatloc.utils.io import read_json, write_json, write_text
from gsplatloc.utils.machine import describe

STEPS = ("build", "test", "sanitize", "peer", "train", "localize", "raster")


@dataclass(frozen=True)
class ReportArguments:
    """Where the figures are, and where the report goes."""

    work: Path  # folder that the steps of gpu.sh wrote to
    out: Path  # folder for the report
    command: str = ""  # that was run


def gather(work: Path, command: str) -> dict[str, Any]:
    """All figures in one dictionary."""
    report: dict[str, Any] = {"machine": describe(torch_device("auto")), "command": command, "steps": {}}
    if os.environ.get("GSPLAT_DRY_RUN") == "1":
        report["dry_run"] = "on the CPU with next to no work: these figures mean nothing"
    for step in STEPS:
        if (work / f"{step}.step.json").is_file():
            report["steps"][step] = read_json(work / f"{step}.step.json")
        if (work / f"{step}.json").is_file():
            report[step] = read_json(work / f"{step}.json")
    report["goals"] = goals(report)
    return report


def goals(report: dict[str, Any]) -> dict[str, Any]:
    """Each goal with what was measured, None where it was not."""
    rows = {}
    for result in report.get("raster", {}).get("results", []):
        where = f"{result['scene']} {result['size']}"
        cases = result["cases"]
        for goal, case, key, least in (
            ("rgb forward, times gsplat", "rgb", "speedup_forward", 1.5),
            ("rgb + depth + 64 features, times gsplat", "rgb + depth + 64 features", "speedup_total", 3.0),
            ("the same in tf32", "rgb + depth + 64 features, tf32", None, 3.0),
        ):
            value = cases.get(case, {}).get(key) if key else _tf32_speedup(cases)
            rows[f"{goal}, {where}"] = {"goal": f">= {least}", "found": value}
        shares = result.get("feature_splatting", {})
        for name, share in shares.items():
            if isinstance(share, dict):
                rows[f"roofline share, {name}, {where}"] = {"goal": ">= 0.25", "found": share["share"]}
    for name, run in report.get("train", {}).items():
        rows[f"training seconds, {name}"] = {"goal": "<= 60", "found": run["seconds"].get("training")}
        rows[f"peak memory GB, {name}"] = {"goal": "<= 3", "found": run.get("peak_reserved_gb")}
        quality = run["quality"] or {}
        rows[f"PSNR dB, {name}"] = {"goal": "the CPU run's 27.0", "found": quality.get("psnr")}
    for name, run in report.get("localize", {}).items():
        rows[f"ms per query, {name}"] = {"goal": "<= 30", "found": run["total_median_ms"]}
    return rows


def _tf32_speedup(cases: dict[str, Any]) -> float | None:
    """gsplat's full-precision time over ours in tf32: its blending has no reduced precision."""
    peer = cases.get("rgb + depth + 64 features", {}).get("peer")
    ours = cases.get("rgb + depth + 64 features, tf32", {}).get("ours")
    return peer["total_ms"] / ours["total_ms"] if peer and ours else None


def main() -> None:
    arguments = tyro.cli(ReportArguments, description=__doc__)
    report = gather(arguments.work, arguments.command)
    name = re.sub(r"[^a-z0-9]+", "-", str(report["machine"]["name"]).lower()).strip("-")
    path = arguments.out / f"{name}-{datetime.now(UTC):%Y-%m-%d}.json"
    write_json(path, report)
    logs = [(arguments.work / f"{step}.log") for step in STEPS]
    text = "\n".join(f"##### {log.stem}\n{log.read_text(errors='replace')}" for log in logs if log.is_file())
    write_text(arguments.out / "gpu.log", text)
    for goal, row in report["goals"].items():
        print(f"{goal:64}{row['goal']:>20}   {row['found']}")
    for step, outcome in report["steps"].items():
        print(f"{step:10} exit code {outcome['exit_code']}, {outcome['seconds']} s")
    print(f"written    {path}")
