"""The steps of benchmarks/gpu.sh: `python -m benchmarks gpu NAME`."""

import sys

from gsplatloc.cli import dispatch

COMMANDS = {
    "map": ("benchmarks.gpu.mapping", "train maps and localize in them: seconds, memory, accuracy"),
    "raster": ("benchmarks.gpu.raster", "time the rasterizer beside gsplat and the roofline"),
    "sanitize": ("benchmarks.gpu.sanitize", "small passes of every kind, for compute-sanitizer"),
    "peer": ("benchmarks.gpu.peer_gsplat", "compile gsplat's kernels"),
    "report": ("benchmarks.gpu.report", "gather the figures of all steps"),
}


def main() -> None:
    dispatch("python -m benchmarks gpu", COMMANDS, sys.argv[1:])
