"""What a scene is on disk. Here one is made: a corner of a synthetic room, with exact poses and depth."""

from pathlib import Path

import numpy as np

from gsplatloc.datasets.options import RoomOptions
from gsplatloc.datasets.room import make_room

OUTPUT = Path("output/examples")


def main(output: Path = OUTPUT) -> None:
    scene = output / "room"
    make_room(scene, RoomOptions(width=256, height=192, train=30, test=6, arc=0.35))
    for split in ("train", "test"):
        print(f"{split}: {len(list((scene / split / 'rgb').iterdir()))} images")

    # Images, poses and calibrations are paired by name. Poses in this layout are camera-to-world; in the code
    # they are cam_from_world everywhere.
    print("pose\n", np.loadtxt(scene / "train/poses/frame-000000.pose.txt"))
    print("calibration\n", np.loadtxt(scene / "train/calibration/frame-000000.calibration.txt"))


if __name__ == "__main__":
    main()
