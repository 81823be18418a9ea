"""Archives of the exact structure of upstream's, whose images are of the synthetic room."""

from pathlib import Path

import cv2
import numpy as np
import torch

from gsplatloc.datasets.options import RoomOptions
from gsplatloc.datasets.room import make_room, room_camera
from gsplatloc.utils import se3
from tests.datasets.files import png, zipped

TRAIN, TEST = 10, 6  # images of a scene
_LEFT, _HEIGHT = 3, 156  # of a 192 x 160 picture that is cropped so that its principal point is the centre
Image = tuple[np.ndarray, np.ndarray]  # BGR, camera-to-world


def room_images(folder: Path, seed: int) -> tuple[dict[str, list[Image]], float]:
    """The images of a room by split, and their focal length."""
    options = RoomOptions(192, 160, TRAIN, TEST, arc=0.12, seed=seed, supersampling=1)
    make_room(folder, options)
    images = {}
    for split in ("train", "test"):
        found = []
        for path in sorted((folder / split / "rgb").iterdir()):
            stem = path.name.removesuffix(".color.png")
            pose = np.loadtxt(folder / split / "poses" / f"{stem}.pose.txt")
            found.append((cv2.imread(str(path))[:_HEIGHT, _LEFT:], pose))
        images[split] = found
    return images, room_camera(options).fx


def pgt_line(name: str, world_from_cam: np.ndarray, tail: str) -> str:
    cam_from_world = se3.inverse(torch.from_numpy(world_from_cam))
    quaternion = se3.quaternion_from_rotation(cam_from_world[:3, :3]).tolist()
    return " ".join([name, *map(repr, [*quaternion, *cam_from_world[:3, 3].tolist()]), tail])


def seven_scenes(images: dict[str, list[Image]], focal: float, scene: str) -> dict[str, bytes]:
    """The files of a scene by their path on a mirror: nested archives, and the pseudo ground truth."""
    outer: dict[str, bytes | str] = {
        f"{scene}/TrainSplit.txt": "sequence1\r\n", f"{scene}/TestSplit.txt": "sequence2\r\n"
    }  # fmt: skip
    files: dict[str, bytes] = {}
    depth = png(np.full((480, 640), 65535, np.uint16))
    for sequence, split in (("seq-01", "train"), ("seq-02", "test")):
        inner: dict[str, bytes | str] = {f"{sequence}/": "", f"{sequence}/Thumbs.db": b"damaged"}
        lines = []
        for number, (image, pose) in enumerate(images[split]):
            stem = f"{sequence}/frame-{number:06d}"
            rows = "\n".join("\t ".join(f"{value: .7e}" for value in row) for row in pose)
            inner |= {
                f"{stem}.color.png": png(image), f"{stem}.depth.png": depth, f"{stem}.pose.txt": rows + "\n"
            }  # fmt: skip
            lines.append(pgt_line(f"{stem}.color.png", pose, repr(focal)))
        outer[f"{scene}/{sequence}.zip"] = zipped(inner)
        files[f"pgt/sfm/7scenes/{scene}_{split}.txt"] = ("\n".join(lines) + "\n").encode()
    files[f"7scenes/{scene}.zip"] = zipped(outer)
    return files


def cambridge(images: dict[str, list[Image]], focal: float, scene: str, number: str) -> dict[str, bytes]:
    """Likewise of a landmark: images, lists of poses, and reconstruction.nvm with focal lengths."""
    header = "Visual Landmark Dataset V1\nImageFile, Camera Position [X, Y, Z, W, P, Q, R]\n\n"
    entries: dict[str, bytes | str] = {}
    cameras = []
    for sequence, split in (("seq1", "train"), ("seq2", "test")):
        lines = []
        for index, (image, pose) in enumerate(images[split], 1):
            stem = f"{sequence}/frame{index:05d}"
            quaternion = se3.quaternion_from_rotation(torch.from_numpy(pose[:3, :3].T)).tolist()
            lines.append(" ".join([f"{stem}.png", *map(str, [*pose[:3, 3], *quaternion])]))
            cameras.append(f"{stem}.jpg\t{focal} 1 0 0 0 0 0 0 0 0")
            entries[f"{scene}/{stem}.png"] = png(image)
        entries[f"{scene}/dataset_{split}.txt"] = header + "\n".join(lines) + "\n"
    listed = "\n".join(cameras)
    entries[f"{scene}/reconstruction.nvm"] = f"NVM_V3\n\n{len(cameras)}\n{listed}\n\n0\n\n0\n"
    entries[f"{scene}/videos/seq1.mp4"] = b"a film"
    return {f"cambridge/{number}/{scene}.zip": zipped(entries)}
