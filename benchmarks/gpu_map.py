#!/usr/bin/env python3
"""What mapping and localization cost on a GPU: seconds by stage, peak memory, quality, accuracy.

    python -m benchmarks.gpu_map train --scene SCENE --work FOLDER [--device cuda]
    python -m benchmarks.gpu_map localize --scene SCENE --work FOLDER [--device cuda]

`train` makes two maps: with `--preset gpu`, and with descriptors trained in every iteration (the paper's
way), and then trains a few iterations with a small image cache: the peak must follow the cache, not the
number of images. `localize` runs several chains of stages over the test images.
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from gsplatloc.arguments.training import parse_train_arguments
from gsplatloc.localization.io.results import localize_queries, write_results
from gsplatloc.localization.localizer import STAGES, Localizer, LocalizerOptions, map_bytes
from gsplatloc.localization.queries import query_from_view
from gsplatloc.mapping.train import train
from gsplatloc.scene import read_scene
from gsplatloc.utils.console import run_script
from gsplatloc.utils.device import torch_device
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import write_json

ROOT = Path(__file__).resolve().parents[1]

RUNS = {
    "map": ["--preset", "gpu"],
    "map_distilled": ["--preset", "gpu", "--descriptors", "distilled", "--descriptor_steps", "0"],
    "map_small_cache": [
        "--preset",
        "gpu",
        "--iterations",
        "500",
        "--image_cache_mb",
        "50",
        "--triangulation.neighbours",
        "4",
    ],
}
DRY = ["--iterations", "3", "--descriptor_steps", "1", "--init_max_points", "500"]
_CHAINS = (("initial",), ("initial", "fine"), STAGES, ("initial", "lm"), ("initial", "fine", "lm"))


def train_maps(arguments: argparse.Namespace) -> None:
    """Make every map of `RUNS`; what each cost."""
    source = scene_folder(arguments)
    shared = ["-s", str(source), "--device", arguments.device, "--quiet"]
    shared += ["--cache_dir", str(arguments.work / "features")]
    figures: dict[str, Any] = {}
    for name, flags in RUNS.items():
        output = arguments.work / name
        parsed = parse_train_arguments(
            [*flags, *(DRY if arguments.dry_run else []), *shared, "-m", str(output)]
        )
        device = torch_device(arguments.device)
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        scene = read_scene(parsed.scene.source_path, parsed.scene.options())
        report = train(scene, output, parsed.mapping(), parsed.config())
        figures[name] = asdict(report) | {"images": len(scene.train), "flags": flags, **peak_memory(device)}
        write_json(arguments.work / "train.json", figures)  # after every run: the next may be cut off
        seconds = figures[name]["seconds"]
        print(f"{name}: training {seconds['training']:.1f} s, all stages {sum(seconds.values()):.1f} s,"
              f" peak {figures[name].get('peak_allocated_gb')} GB, {report.quality}")  # fmt: skip


def peak_memory(device: torch.device) -> dict[str, float]:
    """Of torch's allocator, which holds every byte that we take, in GB."""
    if device.type != "cuda":
        return {}
    return {
        "peak_allocated_gb": torch.cuda.max_memory_allocated(device) / 1e9,
        "peak_reserved_gb": torch.cuda.max_memory_reserved(device) / 1e9,
    }


def localize_chains(arguments: argparse.Namespace) -> None:
    """Localize the test images by every chain of stages that there is."""
    folder = arguments.work / "map"
    scene = read_scene(scene_folder(arguments))
    queries = [query_from_view(view) for view in scene.test]
    figures: dict[str, Any] = {}
    for chain in _CHAINS:
        if not set(chain) <= set(STAGES):
            continue
        options = LocalizerOptions(stages=chain, device=arguments.device)
        localizer = Localizer.load(folder, options)
        localize_queries(localizer, queries[:3], quiet=True)  # kernels are compiled and chosen meanwhile
        results = localize_queries(localizer, queries, quiet=True)
        name = " ".join(chain)
        size = map_bytes(folder, options)
        output = arguments.work / "localization" / "-".join(chain)
        figures[name] = write_results(output, scene.name, results, size, chain)
        write_json(arguments.work / "localize.json", figures)
        final = figures[name]["final"]
        print(f"{name}: {final['median_translation_m']} m, {final['median_rotation_deg']} deg,"
              f" {figures[name]['total_median_ms']:.1f} ms, {final['recall']}")  # fmt: skip


def scene_folder(arguments: argparse.Namespace) -> Path:
    """The scene; in a dry run a few views of the synthetic room."""
    folder: Path = arguments.scene
    if arguments.dry_run:
        from gsplatloc.datasets.room import RoomOptions, make_room

        folder = arguments.work / "room"
        if not folder.is_dir():
            make_room(folder, RoomOptions(width=160, height=128, train=8, test=2, arc=0.1, supersampling=1))
    if not folder.is_dir():
        raise GSplatLocError(f"expected a scene in {folder}, found none: set SCENE")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("train", "localize"))
    parser.add_argument("--scene", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for maps and figures")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dry_run", action="store_true", help="next to no work: a check of this script")
    arguments = parser.parse_args()
    if arguments.what == "train":
        train_maps(arguments)
    else:
        localize_chains(arguments)


if __name__ == "__main__":
    run_script(main)
