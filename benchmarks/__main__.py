"""`python -m benchmarks NAME [options]`: one command for everything that is measured."""

import sys

from gsplatloc.cli import dispatch

COMMANDS = {
    "accuracy": ("benchmarks.accuracy.command", "map and localize the data sets, beside a sparse baseline"),
    "hard": ("benchmarks.accuracy.hard", "localize hard cases made of held-out training images"),
    "quality": ("benchmarks.accuracy.quality", "PSNR, SSIM and depth error of a finished map"),
    "performance": ("benchmarks.performance.command", "time rasterizer, training, mapping, queries, growth"),
    "gate": ("benchmarks.performance.gate", "fail if a kernel takes 1.25 times its committed time"),
    "systems": (
        "benchmarks.systems.command",
        "published systems: convergence, refinement, rgbd, splats, photos, rough_poses, all",
    ),
    "building": ("benchmarks.building", "large places: buildings mapped in tiles, beside a room alone"),
    "cluster": ("benchmarks.cluster", "Ray: four scenes mapped and localized in, on one and on two nodes"),
    "gpu": ("benchmarks.gpu.command", "the steps of benchmarks/gpu.sh"),
    "demo": ("benchmarks.demo", "make a synthetic room, map it, localize in it, check the accuracy"),
    "picture": ("benchmarks.picture", "the README's picture, from the demo's map"),
    "figures": ("benchmarks.figures", "write the documentation's tables and plots from recorded results"),
}


def main() -> None:
    dispatch("python -m benchmarks", COMMANDS, sys.argv[1:])


if __name__ == "__main__":
    main()
