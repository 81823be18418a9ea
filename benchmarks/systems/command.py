"""The published systems beside ours: `python -m benchmarks systems NAME`, or `all`."""

import subprocess
import sys

from benchmarks.harness import ROOT
from gsplatloc.cli import dispatch
from gsplatloc.utils.errors import GSplatLocError

COMMANDS = {
    "convergence": ("benchmarks.systems.convergence", "success of each refinement by overlap; retrieval"),
    "refinement": ("benchmarks.systems.refinement", "GS-CPR from poses of known error; exposure"),
    "rgbd": ("benchmarks.systems.rgbd", "RGB-D tracking beside point cloud registration"),
    "splats": ("benchmarks.systems.splats", "localization in splats without their images"),
    "photos": ("benchmarks.systems.photos", "photos and a video mapped from scratch, beside known poses"),
    "rough_poses": ("benchmarks.systems.rough_poses", "maps of rough poses, refined, beside true poses"),
    "all": ("benchmarks.systems.command", "all of them with their defaults, one after another"),
}


def main() -> None:
    if sys.argv[1:] != ["all"]:
        dispatch("python -m benchmarks systems", COMMANDS, sys.argv[1:])
    for name in [name for name in COMMANDS if name != "all"]:
        if subprocess.run([sys.executable, "-m", "benchmarks", "systems", name], cwd=ROOT).returncode:
            raise GSplatLocError(f"expected the benchmark {name} to succeed, found an error: see above")
