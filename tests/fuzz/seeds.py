"""Small valid inputs of every reader, written into a folder; mutations make damaged ones of them."""

import json
import struct
import zipfile
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from gsplatloc.localization.alignment.exposure import ExposureNetwork, save_exposure
from gsplatloc.localization.evaluation import QueryResult
from gsplatloc.localization.features import Features, Keypoints
from gsplatloc.localization.initial.view_index import ViewIndex, save_index
from gsplatloc.localization.io.json_lines import write_json_lines
from gsplatloc.localization.io.saved_matches import write_matches
from gsplatloc.localization.io.saved_results import save_results
from gsplatloc.localization.landmarks.file import Landmarks, save_landmarks
from gsplatloc.localization.result import Localization, Matches, PoseEstimate, Status
from gsplatloc.localization.tiles.place_index import PlaceIndex, PlaceWords, save_places
from gsplatloc.mapping.feature_cache import FeatureCache
from gsplatloc.scene.cameras import Camera, SparsePoints, View
from gsplatloc.scene.checkpoint import Checkpoint, save_checkpoint
from gsplatloc.scene.export import save_gaussians
from gsplatloc.scene.formats import write_splat
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.map_config import MapConfig, write_cameras, write_config
from gsplatloc.scene.readers.point_cloud import write_points
from gsplatloc.scene.tiled_map import Tile, write_tiles

WIDTH, HEIGHT = 24, 16
CAMERA = Camera(WIDTH, HEIGHT, 20.0, 20.0, 12.0, 8.0)
EYE = "1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"
NAMES = ("a.png", "b.png")


def pixels(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return (np.arange(int(np.prod(shape))).reshape(shape) * 37 % 251).astype(dtype)


def image(path: Path, *, depth: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels(HEIGHT, WIDTH, dtype=np.uint16) if depth else pixels(HEIGHT, WIDTH, 3))


def photos(root: Path) -> None:
    """Images of every format and kind, some with EXIF data."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    exif.get_ifd(0x8769).update({0x920A: 4.2, 0xA405: 28})
    for name in ("a.jpg", "a.png", "a.webp", "a.tif", "a.bmp"):
        Image.fromarray(pixels(HEIGHT, WIDTH, 3)).save(root / name, exif=exif)
    Image.fromarray(pixels(HEIGHT, WIDTH, 4), "RGBA").save(root / "alpha.png")
    Image.fromarray(pixels(HEIGHT, WIDTH)).convert("P").save(root / "palette.png")
    cv2.imwrite(str(root / "d.depth.png"), pixels(HEIGHT, WIDTH, dtype=np.uint16))


def colmap_text(root: Path) -> None:
    for name in NAMES:
        image(root / "images" / name)
    write(
        root,
        {
            "sparse/0/cameras.txt": f"# comment\n1 SIMPLE_RADIAL {WIDTH} {HEIGHT} 20 12 8 0.01\n",
            "sparse/0/images.txt": "".join(
                f"{i} 1 0 0 0 0.1 0.2 {i} 1 {name}\n1.5 2.5 -1 3 4 1\n" for i, name in enumerate(NAMES, 1)
            ),
            "sparse/0/points3D.txt": "1 0.5 0.25 2 10 20 30 0.7 1 0 2 1\n2 1 2 3 4 5 6 0.1 1 1\n",
        },
    )


def colmap_binary(root: Path) -> None:
    for name in NAMES:
        image(root / "images" / name)
    folder = root / "sparse" / "0"
    folder.mkdir(parents=True)
    camera = struct.pack("<IiQQ4d", 1, 2, WIDTH, HEIGHT, 20.0, 12.0, 8.0, 0.01)
    (folder / "cameras.bin").write_bytes(struct.pack("<Q", 1) + camera)
    observations = struct.pack("<Q2dq2dq", 2, 1.5, 2.5, 1, 3.5, 4.5, -1)
    images = [
        struct.pack("<I7dI", i, 1, 0, 0, 0, 0.1, 0.2, i, 1) + name.encode() + b"\0" + observations
        for i, name in enumerate(NAMES, 1)
    ]
    (folder / "images.bin").write_bytes(struct.pack("<Q", 2) + b"".join(images))
    point = struct.pack("<Q3d3BdQ4I", 1, 0.5, 0.25, 2.0, 10, 20, 30, 0.7, 2, 1, 0, 2, 1)
    (folder / "points3D.bin").write_bytes(struct.pack("<Q", 1) + point)
    (folder / "frames.bin").write_bytes(struct.pack("<QIIQ", 1, 1, 1, 0))
    (folder / "rigs.bin").write_bytes(struct.pack("<QII", 1, 1, 1))


def transforms(root: Path) -> None:
    pose = np.eye(4).tolist()
    frames = [{"file_path": f"images/{name}", "transform_matrix": pose, "k1": 0.01} for name in NAMES]
    for name in NAMES:
        image(root / "images" / name)
    image(root / "depth" / "a.png", depth=True)
    frames[0]["depth_file_path"] = "depth/a.png"
    write_points(root / "points.ply", SparsePoints(np.eye(3), np.zeros((3, 3), np.uint8)))
    document = {"w": WIDTH, "h": HEIGHT, "fl_x": 20.0, "cx": 12, "camera_angle_x": 1.0, "frames": frames}
    document |= {"ply_file_path": "points.ply", "test_filenames": ["images/b.png"]}
    write(root, {"transforms.json": json.dumps(document)})


def posed_folders(root: Path) -> None:
    for split, name in (("train", "a"), ("train", "c"), ("test", "b")):
        image(root / split / "rgb" / f"{name}.color.png")
        image(root / split / "depth" / f"{name}.depth.png", depth=True)
        write(root / split, {f"poses/{name}.pose.txt": EYE, f"calibration/{name}.calibration.txt": "20.5"})
    write_points(root / "points3D.ply", SparsePoints(np.eye(3), np.zeros((3, 3), np.uint8)))


def tum(root: Path) -> None:
    for name in NAMES:
        image(root / "rgb" / name)
        image(root / "depth" / name, depth=True)
    for folder in ("rgb", "depth"):
        lines = "".join(f"{i}.5 {folder}/{name}\n" for i, name in enumerate(NAMES, 1))
        write(root, {f"{folder}.txt": f"# timestamp filename\n{lines}"})
    trajectory = "1.5 0 0 1 0 0 0 1\n2.5 0 0 1.5 0 0 0.6 0.8\n"
    write(root, {"groundtruth.txt": trajectory, "calibration.txt": "20 20 12 8 0.1 0.01 0 0"})


def replica(root: Path) -> None:
    camera = {"w": WIDTH, "h": HEIGHT, "fx": 20.0, "fy": 20.0, "cx": 11.5, "cy": 7.5, "scale": 6553.5}
    write(
        root,
        {"traj.txt": 2 * (EYE.replace("\n", " ") + "\n"), "cam_params.json": json.dumps({"camera": camera})},
    )
    for number in range(2):
        image(root / "results" / f"frame{number:06d}.jpg")
        image(root / "results" / f"depth{number:06d}.png", depth=True)


def pose_files(root: Path) -> None:
    write(
        root,
        {
            "pgt.txt": "a.png 1 0 0 0 0.1 0.2 0.3 525.5\nb.png 0.6 0.8 0 0 1 2 3 525.5\n",
            "tum.txt": "1 0 0 1 0 0 0 1\n2 0 0 1.5 0 0 0.6 0.8\n",
        },
    )


def data_sets(root: Path) -> None:
    nvm = "NVM_V3\n\n2\n" + "".join(f"{n} 1500.5 1 0 0 0 1 2 3 0.01 0\n" for n in ("s/a.jpg", "s/b.jpg"))
    intrinsics = "m_calibrationColorIntrinsic = 572 0 320 0 0 572 240 0 0 0 1 0 0 0 0 1"
    write(
        root,
        {
            "reconstruction.nvm": nvm + "\n2\n0.5 0.25 2 10 20 30 1 0 0 1 2\n1 2 3 4 5 6 0\n",
            "dataset_train.txt": "Visual Landmark Dataset\nheader\n\ns/a.png 1 2 3 0.6 0.8 0 0\n",
            "TrainSplit.txt": "sequence1\nsequence2\n",
            "info.txt": 7 * "m_line = 1\n" + intrinsics,
            "split.txt": "sequence0 [frames=350]  [start=0 ; end=349]\n",
            "pgt.txt": "seq-01/frame-000000.color.png 1 0 0 0 0.1 0.2 0.3 525.5\n",
            "setup.json": '{"poses": "pgt", "depth": "none"}',
            "archives/a.pgt.txt": "a.png 1 0 0 0 0.1 0.2 0.3 525.5\n",
        },
    )


def gaussians(count: int = 6) -> Gaussians:
    generator = torch.Generator().manual_seed(0)
    sizes = {"means": (3,), "quaternions": (4,), "log_scales": (3,), "opacity_logits": (), "sh": (4, 3)}
    tensors = {name: torch.randn(count, *size, generator=generator) for name, size in sizes.items()}
    return Gaussians(**tensors, features=torch.randn(count, 8, generator=generator))


def views(root: Path) -> list[View]:
    """Views of a camera that moves: a phone's tracking never states one pose for all frames."""
    poses = torch.eye(4, dtype=torch.float64).repeat(len(NAMES), 1, 1)
    poses[:, 0, 3] = 0.1 * torch.arange(len(NAMES))
    return [
        View(name, CAMERA, pose, root / name, lambda: pixels(HEIGHT, WIDTH, 3))
        for name, pose in zip(NAMES, poses, strict=True)
    ]


def depth() -> np.ndarray:
    return 1 + pixels(HEIGHT, WIDTH, dtype=np.float32) / 100


def splat_map(root: Path) -> None:
    save_gaussians(root, 5, gaussians())


def a_map(root: Path) -> None:
    """The other files of a map, and a checkpoint."""
    write_config(root, MapConfig("scene", extractor="xfeat-1", top_k=10, training={"a": 1}))
    write_cameras(root, views(root))
    unit = torch.nn.functional.normalize(torch.ones(5, 64), dim=1)
    lengths = torch.ones(5, dtype=torch.int32)
    save_landmarks(
        Landmarks(torch.ones(5, 3), unit, torch.ones(5, 3), torch.ones(5, 2), lengths, "xfeat-1"),
        root / "landmarks.safetensors",
    )
    tensors = {"optimizer.means.value": torch.zeros(3, 3), "order.queue": torch.arange(4)}
    save_checkpoint(root / "checkpoint_5.safetensors", Checkpoint(5, tensors, {"seed": 1, "views": ["a"]}))
    index = ViewIndex(torch.eye(4)[None], unit[:1], unit[:1], torch.zeros(64), 1, "key")
    save_index(index, root / "views.safetensors")


def training_log(root: Path) -> None:
    entry = {"kind": "train", "loss": 0.1, "psnr": 20.5, "gaussians": 6, "seconds": 1.5}
    lines = [
        json.dumps(entry | {"iteration": i, "kind": k})
        for i, k in enumerate(["train", "train", "holdout"], 1)
    ]
    write(root, {"training.jsonl": "\n".join(lines) + "\n"})


def ascii_splat(root: Path) -> None:
    names = ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"]
    names += [*(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4)), "red", "green", "blue"]
    head = "".join(f"property float {name}\n" for name in names)
    rows = 3 * (" ".join(f"{i}.5" for i in range(len(names))) + "\n")
    text = f"ply\nformat ascii 1.0\ncomment c\nelement vertex 3\n{head}element face 1\n"
    write(root, {"ascii.ply": text + f"property list uchar int vertex_indices\nend_header\n{rows}3 0 1 2\n"})


def splats(root: Path) -> None:
    """Formats that are read without a library."""
    for suffix in (".splat", ".ksplat", ".glb", ".small"):
        write_splat(root / f"a{suffix}", gaussians())


def poses_without_images(root: Path) -> None:
    write_cameras(root, views(root))
    entry = {"id": 0, "img_name": "a", "width": WIDTH, "height": HEIGHT, "fx": 20.0, "fy": 20.0}
    entry |= {"position": [0, 0, 1], "rotation": np.eye(3).tolist()}
    frame = {"file_path": "images/a.png", "transform_matrix": np.eye(4).tolist(), "k1": 0.01}
    document = {"w": WIDTH, "h": HEIGHT, "fl_x": 20.0, "cx": 12, "frames": [frame, frame]}
    write(root, {"vanilla.json": json.dumps([entry]), "transforms.json": json.dumps(document)})


def results(root: Path) -> None:
    """What a run of localization writes, and what it goes on from."""
    pose, covariance = torch.eye(4, dtype=torch.float64), torch.eye(6, dtype=torch.float64)
    matches = Matches(np.ones((3, 2)), np.ones((3, 3)), np.ones(3, bool))
    found = PoseEstimate(Status.OK, CAMERA, pose, covariance=covariance, matches=matches)
    failed = PoseEstimate(Status.NO_CONSENSUS, CAMERA)
    written = [
        QueryResult("a.png", Localization({"initial": found, "lm": found}), pose),
        QueryResult("b.png", Localization({"initial": failed}), None, "cut short"),
    ]
    write_json_lines(root / "queries.jsonl", written)
    write_matches(root / "matches.safetensors", written)
    save_results(root / "results.json", written)


def tiles(root: Path) -> None:
    write_tiles(root, [Tile("tiles/000", 3, 1, "key"), Tile("tiles/001", 2, 0)])
    words = PlaceWords(torch.eye(2), torch.ones(4), torch.ones(4, 3))
    index = PlaceIndex(words, torch.ones(2, 3), torch.eye(4).double().repeat(2, 1, 1), torch.tensor([0, 1]))
    save_places(index, root / "tiles.safetensors")


def states(root: Path) -> None:
    """What tells a run how far an earlier one came."""
    costs = {"map": {"seconds": 1.5, "peak_bytes": 100, "runs": 1}}
    write(root, {"map.json": '{"run": "a", "finished": true}', "costs.json": json.dumps(costs)})
    save_exposure(root / "exposure.safetensors", ExposureNetwork())


class Extractor:
    """Gives constant features."""

    name, version, channels, top_k = "constant", "constant-1", 4, 3

    def dense_size(self, width: int, height: int) -> tuple[int, int]:
        return height // 8, width // 8

    def extract(self, image: np.ndarray) -> Features:
        height, width = self.dense_size(image.shape[1], image.shape[0])
        keypoints = Keypoints(torch.ones(3, 2), torch.ones(3, 4), torch.ones(3))
        return Features(keypoints, torch.ones(4, height, width))


def feature_cache(root: Path) -> None:
    FeatureCache(root, Extractor()).prepare(views(root)[:1], quiet=True)


def archive(root: Path) -> None:
    kinds = {"stored": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED}
    for name, kind in kinds.items():
        with zipfile.ZipFile(root / f"{name}.zip", "w", kind) as opened:
            opened.writestr("folder/a.txt", "text " * 50)
            opened.writestr("b\u00e9.txt", "x")


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
