"""What mapping and localization cost on a GPU: seconds by stage, peak memory, quality, accuracy.

`train` makes two maps, with `--preset gpu` and with descriptors trained in every iteration (the paper's way),
and then trains a few iterations with a small image cache: peak memory must follow the cache, not the number
of images. `localize` runs several chains of stages over the test images.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from gsplatloc.arguments.training import parse_train_arguments
from gsplatloc.datasets.options import RoomOptions
from gsplatloc.datasets.room import make_room
from gsplatloc.localization.io.results import localize_queries, write_results
from gsplatloc.localization.localizer import Localizer, map_bytes
from gsplatloc.localization.options import LocalizerOptions
from gsplatloc.localization.queries import query_from_view
from gsplatloc.mapping.train import train
from gsplatloc.scene import read_scene
from gsplatloc.utils.device import torch_device
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import write_json

RUNS = {
    "map": "--preset gpu",
    "map_distilled": "--preset gpu --descriptors distilled --descriptor_steps 0",
    "map_small_cache": "--preset gpu --iterations 500 --image_cache_mb 50",
}
_DRY = "--iterations 3 --descriptor_steps 1 --init_max_points 500"
_CHAINS: tuple[tuple[str, ...], ...] = ((), ("fine",), ("fine", "warp"), ("lm",), ("fine", "lm"))


@dataclass(frozen=True)
class GpuMapArguments:
    """What is mapped, and where."""

    step: Literal["train", "localize"]  # make the maps, or localize in the first one
    scene: Path  # folder of the scene
    work: Path  # folder for maps and figures
    device: str = "cuda"  # cuda, cuda:N or cpu
    dry_run: bool = False  # next to no work, on a few views of the synthetic room: checks this script


def main() -> None:
    arguments = tyro.cli(GpuMapArguments, description=__doc__, use_underscores=True)
    source = arguments.scene
    if arguments.dry_run:
        source = arguments.work / "room"
        if not source.is_dir():
            make_room(source, RoomOptions(width=160, height=128, train=8, test=2, arc=0.1, supersampling=1))
    if not source.is_dir():
        raise GSplatLocError(f"expected a scene in {source}, found none: set SCENE")
    if arguments.step == "train":
        train_maps(arguments, source)
    else:
        localize_chains(arguments, source)


def train_maps(arguments: GpuMapArguments, source: Path) -> None:
    """Make every map of `RUNS`, and write what each cost."""
    device, figures = torch_device(arguments.device), dict[str, Any]()
    cache = str(arguments.work / "features")
    for name, flags in RUNS.items():
        output = arguments.work / name
        words = f"{flags} {_DRY if arguments.dry_run else ''} --device {arguments.device} --quiet".split()
        parsed = parse_train_arguments([*words, "--cache_dir", cache, "-s", str(source), "-m", str(output)])
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        scene = read_scene(parsed.scene.source_path, parsed.scene.options())
        report = train(scene, output, parsed.mapping(), parsed.config())
        figures[name] = asdict(replace(report, cache=None)) | {
            "images": len(scene.train),
            "flags": flags,
            **peak_memory(device),
        }
        write_json(arguments.work / "train.json", figures)  # after every run: the next may be cut off
        seconds = figures[name]["seconds"]
        print(f"{name}: training {seconds['training']:.1f} s, all stages {sum(seconds.values()):.1f} s,"
              f" peak {figures[name].get('peak_allocated_gb')} GB, {report.quality}")  # fmt: skip


def peak_memory(device: torch.device) -> dict[str, float]:
    """Of torch's allocator, which holds all our memory, in GB."""
    if device.type != "cuda":
        return {}
    return {
        "peak_allocated_gb": torch.cuda.max_memory_allocated(device) / 1e9,
        "peak_reserved_gb": torch.cuda.max_memory_reserved(device) / 1e9,
    }


def localize_chains(arguments: GpuMapArguments, source: Path) -> None:
    """Localize the test images by every chain of stages."""
    folder, figures = arguments.work / "map", dict[str, Any]()
    scene = read_scene(source)
    queries = [query_from_view(view) for view in scene.test]
    for stages in _CHAINS:
        options = LocalizerOptions(stages=stages, device=arguments.device)
        localizer, chain = Localizer.load(folder, options), options.chain()
        localize_queries(localizer, queries[:3], quiet=True)  # kernels are compiled and chosen meanwhile
        results = localize_queries(localizer, queries, quiet=True)
        output, name = arguments.work / "localization" / "-".join(chain), " ".join(chain)
        figures[name] = write_results(output, scene.name, results, map_bytes(localizer), chain)
        write_json(arguments.work / "localize.json", figures)
        final = figures[name]["final"]
        print(f"{name}: {final['median_translation_m']} m, {final['median_rotation_deg']} deg,"
              f" {figures[name]['total_median_ms']:.1f} ms, {final['recall']}")  # fmt: skip
