#!/usr/bin/env python3
"""The README's table: mapping and localization of every scene at hand, beside a sparse baseline.

For each scene: `train.py --preset cpu`, then the baseline, then `loc_inference.py`, one after the other, so
that the two are timed on the same machine within minutes of each other. The baseline is a stand-alone script
that reads posed folders (train/, test/ with rgb/, poses/, calibration/); other layouts are written out for it
as undistorted copies of exactly the images that we read.
"""

import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
import tyro

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from datasets.layout import format_pose  # noqa: E402
from scene import SceneOptions, read_scene  # noqa: E402
from scene.cameras import View  # noqa: E402
from utils import se3  # noqa: E402
from utils.console import run_script  # noqa: E402
from utils.errors import GSplatLocError  # noqa: E402
from utils.io import read_json, write_json, write_text  # noqa: E402

METRIC_SCENES = ("pgt_7scenes_redkitchen",)  # the others have no scale: their errors are given relative only


@dataclass(frozen=True)
class AccuracyArguments:
    """Which scenes to run and where results go."""

    scenes: tuple[str, ...] = ("pgt_7scenes_redkitchen", "colmap_south_building", "nerf_fox")
    data: Path = Path(
        os.environ.get("GSPLATLOC_DATA", ROOT.parent / "shared" / "data")
    )  # folder of the scenes
    baseline: Path | None = None  # the sparse baseline's script; default: DATA/../tools/sparse_baseline.py
    output: Path = ROOT / "output" / "accuracy"  # maps, copies and logs
    results: Path = ROOT / "benchmarks" / "results" / "accuracy.json"
    table: Path = ROOT / "docs" / "results.md"
    reuse_maps: bool = False  # localize in maps of an earlier run (mapping figures are then that run's)


@dataclass(frozen=True)
class Run:
    """What one child process cost."""

    seconds: float
    peak_bytes: int  # largest resident size


def run(command: list[str], log: Path) -> Run:
    """Run a child to its end, its output into `log`; a failure is the user's to read there."""
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with log.open("w") as stream:
        process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        tail = log.read_text().strip().splitlines()[-1:]
        raise GSplatLocError(f"{' '.join(command[:3])} failed with {process.returncode}: {tail}; see {log}")
    return Run(time.perf_counter() - start, usage.ru_maxrss * 1024)


def path_extent(views: list[View]) -> float:
    """Diagonal of the bounding box of the camera centres, scene units: what errors are relative to."""
    centers = torch.stack([se3.camera_center(view.cam_from_world) for view in views])
    return torch.linalg.norm(centers.amax(0) - centers.amin(0)).item()


def write_posed_folders(folder: Path, views: list[View]) -> None:
    """Write views as `rgb/N.color.png`, `poses/N.pose.txt` and `calibration/N.calibration.txt` (a 3x3 K)."""
    for kind in ("rgb", "poses", "calibration"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for index, view in enumerate(views):
        stem = f"frame-{index:06d}"
        matrix = "\n".join(
            " ".join(f"{value:.12g}" for value in row) for row in view.camera.matrix().tolist()
        )
        write_text(
            folder / "poses" / f"{stem}.pose.txt", format_pose(se3.inverse(view.cam_from_world).numpy())
        )
        write_text(folder / "calibration" / f"{stem}.calibration.txt", matrix + "\n")
        cv2.imwrite(str(folder / "rgb" / f"{stem}.color.png"), view.load_image()[..., ::-1])


def prepare_for_baseline(source: Path, options: SceneOptions, copy: Path) -> Path:
    """The scene itself where it has posed folders, else an undistorted copy of the views that we read."""
    if (source / "train" / "rgb").is_dir():
        return source
    if not (copy / "done").exists():
        scene = read_scene(source, options)
        for split, views in (("train", scene.train), ("test", scene.test)):
            write_posed_folders(copy / split, views)
        write_text(copy / "done", "complete\n")
    return copy


def training_summary(map_folder: Path) -> dict[str, Any]:
    """The last held-out evaluation that training wrote."""
    records = [json.loads(line) for line in (map_folder / "training.jsonl").read_text().splitlines()]
    evaluations = [record for record in records if record["kind"] == "holdout"]
    if not evaluations:
        raise GSplatLocError(f"expected a held-out evaluation in {map_folder}/training.jsonl, found none")
    return evaluations[-1]


def measure_scene(name: str, arguments: AccuracyArguments, baseline: Path) -> dict[str, Any]:
    """Map, run the baseline, localize: everything the table says of one scene."""
    source, work = arguments.data / name, arguments.output / name
    layout_flags = [] if (source / "train").is_dir() else ["--eval"]
    options = SceneOptions(eval=bool(layout_flags))
    scene = read_scene(source, options)
    map_folder = work / "map"
    mapping_json = work / "mapping.json"
    if not (arguments.reuse_maps and mapping_json.exists()):
        train = [sys.executable, "train.py", "-s", str(source), "-m", str(map_folder), "--preset", "cpu"]
        cost = run([*train, *layout_flags, "--quiet"], work / "train.log")
        write_json(mapping_json, {"seconds": cost.seconds, "peak_bytes": cost.peak_bytes})
    mapping = read_json(mapping_json) | {"held_out": training_summary(map_folder)}
    copy = prepare_for_baseline(source, options, work / "baseline_scene")
    run(
        [sys.executable, str(baseline), str(copy), "--json", str(work / "baseline.json")],
        work / "baseline.log",
    )
    run([sys.executable, "loc_inference.py", "-m", str(map_folder), "--quiet"], work / "localize.log")
    return {
        "scene": name,
        "metric": name in METRIC_SCENES,
        "extent": path_extent([*scene.train, *scene.test]),
        "mapping": mapping,
        "ours": read_json(map_folder / "localization" / "metrics.json"),
        "baseline": read_json(work / "baseline.json"),
    }


def format_error(result: dict[str, Any], figures: dict[str, Any]) -> str:
    """`0.50 cm / 0.16°` where the scene is metric, else `0.04 % / 0.05°` of the camera path's extent."""
    translation, rotation = figures["median_translation_m"], figures["median_rotation_deg"]
    if translation is None:
        return "failed"
    if result["metric"]:
        return f"{100 * translation:.2f} cm / {rotation:.3f}°"
    return f"{100 * translation / result['extent']:.4f} % / {rotation:.3f}°"


def table(results: list[dict[str, Any]]) -> str:
    """Markdown, one row per scene and method."""
    lines = [
        "| scene | method | median error | 5 cm 5° | 2 cm 2° | 1 cm 1° | failed | ms each | map | mapping |",
        "|" + " --- |" * 10,
    ]
    for result in results:
        ours, baseline, mapping = result["ours"], result["baseline"], result["mapping"]
        made = f"{mapping['seconds'] / 60:.1f} min, {mapping['peak_bytes'] / 2**30:.1f} GB"
        made += f", {mapping['held_out']['psnr']:.1f} dB"
        rows = [
            (f"ours, {name}", stage, stage["median_ms"], "", "") for name, stage in ours["stages"].items()
        ]
        rows.append(
            (
                "**ours, final**",
                ours["final"],
                ours["total_median_ms"],
                f"{ours['map_bytes'] / 1e6:.1f} MB",
                made,
            )
        )
        size = f"{baseline['map_bytes'] / 1e6:.1f} MB"
        rows.append(
            (
                "sparse baseline",
                baseline,
                baseline["total_median_ms"],
                size,
                f"{baseline['mapping_s'] / 60:.1f} min",
            )
        )
        for label, figures, milliseconds, size, made in rows:
            recall = figures["recall"]
            recalls = [
                f"{100 * recall[key]:.1f} %" if result["metric"] else "–"
                for key in ("5cm_5deg", "2cm_2deg", "1cm_1deg")
            ]
            failed = figures.get("failed", ours["failed"])
            cells = [
                result["scene"],
                label,
                format_error(result, figures),
                *recalls,
                f"{failed}/{ours['count']}",
            ]
            lines.append("| " + " | ".join([*cells, f"{milliseconds:.0f}", size, made]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    arguments = tyro.cli(AccuracyArguments, description=__doc__, config=(tyro.conf.FlagConversionOff,))
    baseline = arguments.baseline or arguments.data.parent / "tools" / "sparse_baseline.py"
    if not baseline.is_file():
        raise GSplatLocError(
            f"expected the sparse baseline's script at {baseline}, found none: give --baseline"
        )
    results = [measure_scene(name, arguments, baseline) for name in arguments.scenes]
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    command = "python benchmarks/accuracy.py " + " ".join(sys.argv[1:])
    write_json(
        arguments.results, {"commit": commit, "command": command, "machine": machine, "results": results}
    )
    text = table(results)
    write_text(
        arguments.table, f"# Results\n\nMade by `{command.strip()}` on {os.cpu_count()} CPU cores.\n\n{text}"
    )
    print(text)


if __name__ == "__main__":
    run_script(main)
