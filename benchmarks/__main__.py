"""`python -m benchmarks NAME [options]`: one command for everything that is measured."""

import sys

from gsplatloc.cli import dispatch

COMMANDS = {
    "accuracy": ("benchmarks.accuracy.command", "map and localize the data sets, beside a sparse baseline"),
    "hard": ("benchmarks.accuracy.hard", "localize hard cases made of held-out training images"),
    "quality": ("benchmarks.accuracy.measure", "PSNR, SSIM and depth error of a finished map"),
    "performance": ("benchmarks.performance.command", "time rasterizer, training, mapping, queries, growth"),
    "gate": ("benchmarks.performance.gate", "fail if a kernel takes 1.25 times its committed time"),
    "busy": ("benchmarks.performance.busy", "time training and queries beside other processes"),
    "building": ("benchmarks.building", "large places: buildings mapped in tiles, beside a room alone"),
    "cluster": ("benchmarks.cluster", "Ray: four scenes mapped and localized in, on one and on two nodes"),
    "demo": ("benchmarks.demo", "make a synthetic room, map it, localize in it, check the accuracy"),
    "figures": ("benchmarks.figures", "write the documentation's tables and plots from recorded results"),
}
# Commands that have commands of their own.
GROUPS = {
    "systems": {
        "convergence": ("benchmarks.systems.convergence", "success of refinements by overlap; retrieval"),
        "refinement": ("benchmarks.systems.refinement", "GS-CPR from poses of known error; exposure"),
        "rgbd": ("benchmarks.systems.rgbd", "RGB-D tracking beside point cloud registration"),
        "splats": ("benchmarks.systems.splats", "localization in splats without their images"),
        "photos": ("benchmarks.systems.photos", "photos and a video mapped from scratch, beside known poses"),
        "rough_poses": ("benchmarks.systems.rough_poses", "maps of rough poses, refined, beside true poses"),
        "all": ("benchmarks.systems.every", "all of them with their defaults, one after another"),
    },
    "gpu": {
        "map": ("benchmarks.gpu.mapping", "train maps and localize in them: seconds, memory, accuracy"),
        "raster": ("benchmarks.gpu.raster", "time the rasterizer beside gsplat and the roofline"),
        "report": ("benchmarks.gpu.report", "gather the figures of all steps"),
    },
}
HELP = {"systems": "published systems", "gpu": "steps of benchmarks/gpu.sh"}


def main() -> None:
    words = sys.argv[1:]
    if words[:1] and words[0] in GROUPS:
        dispatch(f"python -m benchmarks {words[0]}", GROUPS[words[0]], words[1:])
    else:
        groups = {name: ("", f"{HELP[name]}: {', '.join(commands)}") for name, commands in GROUPS.items()}
        dispatch("python -m benchmarks", COMMANDS | groups, words)


if __name__ == "__main__":
    main()
