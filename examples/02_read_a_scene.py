"""Views, cameras and poses in memory: a pixel of one view is found in the next through its depth."""

from pathlib import Path

import torch

import gsplatloc
from gsplatloc.utils import se3

OUTPUT = Path("output/examples")


def main(output: Path = OUTPUT) -> None:
    scene = gsplatloc.read_scene(output / "room")  # any layout: posed folders, COLMAP, transforms.json
    first, second = scene.train[:2]
    print(f"{scene.name}: {len(scene.train)} training views, {len(scene.test)} test views")
    print(first.camera)
    print(f"{first.name} was taken from {se3.camera_center(first.cam_from_world).numpy().round(3)}")

    # Images and depth stay on disk until they are asked for.
    if first.load_depth is None:
        raise SystemExit("this scene has no depth: run 01_make_a_scene first")
    image, depth = first.load_image(), first.load_depth()
    row, column = 100, 80
    pixel = torch.tensor([[column + 0.5, row + 0.5]], dtype=torch.float64)  # the centre of a pixel
    z = torch.tensor([float(depth[row, column])], dtype=torch.float64)

    in_first = first.camera.unproject(pixel, z)  # [1, 3] metres, in the first camera's frame
    second_from_first = second.cam_from_world @ se3.inverse(first.cam_from_world)
    in_second = in_first @ second_from_first[:3, :3].T + second_from_first[:3, 3]
    there = second.camera.project(in_second)[0]
    other = second.load_image()
    x, y = there.tolist()
    print(f"{first.name} at ({column + 0.5}, {row + 0.5}) has colour {image[row, column]}")
    print(f"{second.name} at ({x:.2f}, {y:.2f}) has colour {other[int(y), int(x)]}")


if __name__ == "__main__":
    main()
