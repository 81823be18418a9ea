"""From posed images to a map on disk: what train.py does, as a function with options."""

from dataclasses import replace
from pathlib import Path

from gsplatloc.arguments.presets import mapping_preset
from gsplatloc.mapping.train import train
from gsplatloc.scene import read_scene
from gsplatloc.scene.map_config import MapConfig

OUTPUT = Path("output/examples")


def main(output: Path = OUTPUT) -> None:
    scene = read_scene(output / "room")
    options = mapping_preset("cpu")
    options = replace(  # a short run for a small room; options are frozen, a change is a new object
        options,
        schedule=replace(options.schedule, iterations=300, sh_degree=0, holdout=10),
        initialization=replace(options.initialization, init_max_points=20_000),
        optimizer=replace(options.optimizer, position_lr_max_steps=300),
        densification=replace(
            options.densification, densify_from_iter=50, densify_until_iter=200, max_gaussians=30_000
        ),
        output=replace(options.output, test_iterations=(300,), save_iterations=(300,), quiet=True),
    )
    config = MapConfig(source_path=str((output / "room").resolve()), preset="cpu")
    report = train(scene, output / "map", options, config)
    print("\n".join(report.lines()))


if __name__ == "__main__":
    main()
