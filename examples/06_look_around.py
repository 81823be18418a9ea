"""What a map contains: colour, depth and descriptors, rendered along a smooth path through its cameras."""

from pathlib import Path

from gsplatloc.scene.export import load_gaussians
from gsplatloc.scene.map_config import read_cameras
from gsplatloc.visualization.rendering import ImageOptions, render_looks, write_looks
from gsplatloc.visualization.trajectory import smooth_path

OUTPUT = Path("output/examples")


def main(output: Path = OUTPUT, frames: int = 60) -> None:
    gaussians = load_gaussians(output / "map")
    path = smooth_path(read_cameras(output / "map"), frames)
    options = ImageOptions(fps=20)
    write_looks(output / "look", render_looks(gaussians, path, options), len(path), options)
    print(f"{len(path)} frames and film.mp4 in {output / 'look'}")


if __name__ == "__main__":
    main()
