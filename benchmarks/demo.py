"""The whole path in a few minutes, without a download: make a room, map it, localize in it, check the errors.

Runs the same commands that a user would, on a synthetic scene with known poses, and fails if the result is
less accurate than demanded.
"""

import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks.harness import OUTPUT, ROOT
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json

# A short run over small images: everything that the preset does happens in fewer iterations.
_TRAINING = (
    "--preset cpu --iterations {iterations} --position_lr_max_steps {iterations}"
    " --test_iterations {iterations} --save_iterations {iterations} --pyramid 0.15 0.4 --sh_interval 500"
    " --init_max_points 60000 --max_gaussians 100000"
    " --densify_from_iter 100 --densify_until_iter {densify_until} --densification_interval 50"
)


@dataclass(frozen=True)
class DemoArguments:
    """What the demo makes, and which accuracy it demands."""

    output: Path = OUTPUT / "demo"  # folder for the scene and the map
    train: int = 80  # training views
    test: int = 20  # views to localize
    iterations: int = 1_800  # of mapping
    max_median_cm: float = 0.25  # the final median position error must be below
    max_median_deg: float = 0.05  # the final median rotation error must be below
    min_recall: float = 0.95  # of the queries must be within 5 cm and 5 degrees


def main() -> None:
    arguments = tyro.cli(DemoArguments, description=__doc__, use_underscores=True)
    seconds = {name: run(name, command) for name, command in commands(arguments).items()}
    folder = arguments.output / "map" / "localization"
    metrics = read_json(folder / "metrics.json")
    total = ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
    print(f"\nmap        {metrics['map_bytes'] / 1e6:.1f} MB read; {sum(seconds.values()):.0f} s ({total})")
    print(f"report     {shown(folder / 'report.html')}\npictures   {shown(folder / 'pictures')}")
    check(metrics, arguments)


def commands(arguments: DemoArguments) -> dict[str, list[str]]:
    """The three commands, by name."""
    scene, model = arguments.output / "room", arguments.output / "map"
    counts = ["--train", str(arguments.train), "--test", str(arguments.test)]
    steps = {"iterations": arguments.iterations, "densify_until": arguments.iterations * 2 // 3}
    training = _TRAINING.format(**steps).split()
    return {
        "room": ["datasets/make_room.py", "--output", shown(scene), *counts],
        "mapping": ["train.py", "-s", shown(scene), "-m", shown(model), *training],
        "localization": ["loc_inference.py", "-m", shown(model)],
    }


def run(name: str, command: Sequence[str]) -> float:
    """Run one of our scripts with this interpreter; returns the seconds it took."""
    print(f"\n$ python {shlex.join(command)}", flush=True)
    start = time.perf_counter()
    finished = subprocess.run([sys.executable, *command], cwd=ROOT, check=False)
    if finished.returncode != 0:
        raise GSplatLocError(
            f"expected the step '{name}' to succeed, found exit code {finished.returncode}: see above"
        )
    return time.perf_counter() - start


def check(metrics: Mapping[str, Any], arguments: DemoArguments) -> None:
    """Raise `GSplatLocError` where the result is less accurate than demanded."""
    final = metrics["final"]
    medians = final["median_translation_m"], final["median_rotation_deg"]
    metres, degrees = (float("inf") if value is None else value for value in medians)
    centimetres, recall = 100 * metres, final["recall"]["5cm_5deg"]
    demands = [
        (centimetres <= arguments.max_median_cm, f"{arguments.max_median_cm} cm", f"{centimetres:.2f} cm"),
        (degrees <= arguments.max_median_deg, f"{arguments.max_median_deg}°", f"{degrees:.3f}°"),
        (recall >= arguments.min_recall, f"{arguments.min_recall:.0%} at 5 cm 5°", f"{recall:.0%}"),
    ]
    for met, expected, found in demands:
        if not met:
            raise GSplatLocError(
                f"expected {expected} or better, found {found}: the demo is less accurate than it was"
            )


def shown(path: Path) -> str:
    """A path relative to the project's root, where the commands run; absolute if it is outside."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.resolve())
