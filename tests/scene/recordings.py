"""Recordings as phones' apps write them, made of posed views with depth."""

import json
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from gsplatloc.scene.cameras import Camera, View
from gsplatloc.utils import se3

OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def world_from_camera(view: View, opengl: bool = True) -> np.ndarray:
    pose = se3.inverse(view.cam_from_world).numpy()
    return pose @ OPENGL if opengl else pose


def quaternion_and_position(view: View, opengl: bool = True) -> list[float]:
    """qx qy qz qw x y z."""
    pose = world_from_camera(view, opengl)
    w, x, y, z = se3.quaternion_from_rotation(torch.from_numpy(pose[:3, :3])).tolist()
    return [x, y, z, w, *pose[:3, 3].tolist()]


def depth_of(view: View) -> np.ndarray:
    assert view.load_depth is not None
    return view.load_depth()


def portrait(view: View) -> View:
    """The view as a phone held upright stores it: the sensor's image turned clockwise, with its camera."""
    camera, turn = view.camera, torch.eye(4, dtype=torch.float64)
    turn[:2, :2] = torch.tensor([[0.0, -1.0], [1.0, 0.0]])  # right is the sensor's up
    image, depth = np.rot90(view.load_image(), -1), np.rot90(depth_of(view), -1)
    turned = Camera(camera.height, camera.width, camera.fy, camera.fx, camera.height - camera.cy, camera.cx)
    return replace(
        view,
        camera=turned,
        cam_from_world=turn @ view.cam_from_world,
        load_image=lambda: image,
        load_depth=lambda: depth,
    )


def small_depth(view: View) -> np.ndarray:
    """[h / 2, w / 2] float32 metres."""
    return depth_of(view)[::2, ::2].copy()


def confidence_of(depth: np.ndarray) -> np.ndarray:
    """uint8: high, in the left quarter low, and beside it medium."""
    confidence = np.full(depth.shape, 2, np.uint8)
    confidence[:, : depth.shape[1] // 4] = 0
    confidence[:, depth.shape[1] // 4 : depth.shape[1] // 2] = 1
    return confidence


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image)


def compressed(array: np.ndarray) -> bytes:
    import lzfse

    packed: bytes = lzfse.compress(array.tobytes())
    return packed


def metadata(views: Sequence[View]) -> dict[str, Any]:
    camera = views[0].camera
    return {
        "w": camera.width,
        "h": camera.height,
        "dw": camera.width // 2,
        "dh": camera.height // 2,
        "fps": 60,
        "K": [camera.fx, 0, 0, 0, camera.fy, 0, camera.cx, camera.cy, 1],
        "poses": [quaternion_and_position(view) for view in views],
        "perFrameIntrinsicCoeffs": [[v.camera.fx, v.camera.fy, v.camera.cx, v.camera.cy] for v in views],
        "initPose": [0, 0, 0, 1, 0, 0, 0],
        "frameTimestamps": [i / 60 for i in range(len(views))],
    }


def record3d_folder(root: Path, views: Sequence[View], image: str = ".png", **changes: Any) -> Path:
    """The content of an .r3d file. A change to None removes an entry of the metadata."""
    for number, view in enumerate(views):
        save(root / "rgbd" / f"{number}{image}", view.load_image())
        depth = small_depth(view)
        (root / "rgbd" / f"{number}.depth").write_bytes(compressed(depth))
        (root / "rgbd" / f"{number}.conf").write_bytes(compressed(confidence_of(depth)))
    document = {key: value for key, value in (metadata(views) | changes).items() if value is not None}
    (root / "metadata").write_text(json.dumps(document))
    return root


def zipped(folder: Path, archive: Path, top: str = "") -> Path:
    """The folder as a zip archive, below the folder `top` in it."""
    with zipfile.ZipFile(archive, "w") as opened:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            opened.write(file, Path(top) / file.relative_to(folder))
    return archive


def record3d(root: Path, views: Sequence[View]) -> Path:
    return zipped(record3d_folder(root / "content", views), root / "clip.r3d")


def record3d_export(root: Path, views: Sequence[View]) -> Path:
    import OpenEXR

    for number, view in enumerate(views):
        save(root / "rgb" / f"{number}.png", view.load_image())
        (root / "depth").mkdir(exist_ok=True)
        depth = np.where(confidence_of(small_depth(view)) > 0, small_depth(view), np.nan)
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        with OpenEXR.File(header, {"R": depth.astype(np.float32)}) as file:
            file.write(str(root / "depth" / f"{number}.exr"))
    (root / "metadata.json").write_text(json.dumps(metadata(views)))
    return root


def depth_png(path: Path, depth: np.ndarray, factor: float = 1000.0) -> None:
    save(path, np.round(depth * factor).astype(np.uint16))


def polycam(root: Path, views: Sequence[View], kind: str = "") -> Path:
    keyframes = root / "keyframes"
    for number, view in enumerate(views):
        name, pose, camera = f"{1_700_000_000_000 + number}", world_from_camera(view), view.camera
        save(keyframes / f"{kind}images" / f"{name}.png", view.load_image())
        document = {f"t_{row}{column}": pose[row, column] for row in range(3) for column in range(4)}
        document |= {"fx": camera.fx, "fy": camera.fy, "cx": camera.cx, "cy": camera.cy}
        document |= {"width": camera.width, "height": camera.height, "blur_score": 120.0}
        (keyframes / f"{kind}cameras").mkdir(exist_ok=True)
        (keyframes / f"{kind}cameras" / f"{name}.json").write_text(json.dumps(document))
        depth = small_depth(view)
        depth_png(keyframes / "depth" / f"{name}.png", depth)
        levels = np.array([0, 127, 255], np.uint8)
        save(keyframes / "confidence" / f"{name}.png", levels[confidence_of(depth)])
    return root


def scanner_app(root: Path, views: Sequence[View]) -> Path:
    for number, view in enumerate(views):
        camera = view.camera
        document = {
            "cameraPoseARFrame": world_from_camera(view).ravel().tolist(),
            "intrinsics": [camera.fx, 0, camera.cx, 0, camera.fy, camera.cy, 0, 0, 1],
            "frame_index": number,
        }
        save(root / f"frame_{number:05d}.png", view.load_image())
        (root / f"frame_{number:05d}.json").write_text(json.dumps(document))
        depth_png(root / f"depth_{number:05d}.png", small_depth(view))
        save(root / f"conf_{number:05d}.png", confidence_of(small_depth(view)))
    (root / "info.json").write_text("{}")
    return root


def stray_scanner(root: Path, views: Sequence[View], header: bool = True, video: bool = False) -> Path:
    camera = views[0].camera
    lines = ["timestamp, frame, x, y, z, qx, qy, qz, qw"] if header else []
    for number, view in enumerate(views):
        *quaternion, x, y, z = quaternion_and_position(view, opengl=False)
        numbers = ", ".join(f"{value:.9f}" for value in (x, y, z, *quaternion))
        lines.append(f"{number / 60}, {number:06d}, {numbers}" if header else numbers)
        if not video:
            save(root / "rgb" / f"{number:06d}.png", view.load_image())
        depth_png(root / "depth" / f"{number:06d}.png", small_depth(view))
        save(root / "confidence" / f"{number:06d}.png", confidence_of(small_depth(view)))
    (root / "odometry.csv").write_text("\n".join(lines))
    rows = [[camera.fx, 0.0, camera.cx], [0.0, camera.fy, camera.cy], [0.0, 0.0, 1.0]]
    (root / "camera_matrix.csv").write_text("\n".join(", ".join(map(str, row)) for row in rows))
    if video:
        size = camera.width, camera.height
        writer = cv2.VideoWriter(str(root / "rgb.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 60, size)
        for view in views:
            writer.write(view.load_image()[..., ::-1])
        writer.release()
    return root


def nerfcapture(root: Path, views: Sequence[View]) -> Path:
    """As SplaTAM's script writes it: depth of up to 10 m over 16 bits, of the images' size."""
    frames = []
    for number, view in enumerate(views):
        camera, depth = view.camera, small_depth(view)
        depth = np.where(confidence_of(depth) > 0, depth, 0).repeat(2, 0).repeat(2, 1)
        save(root / "images" / f"{number}.png", view.load_image())
        depth_png(root / "images" / f"{number}.depth.png", depth, 6553.5)
        frame = {"file_path": f"images/{number}", "depth_path": f"images/{number}.depth.png"}
        frame |= {"fl_x": camera.fx, "fl_y": camera.fy, "cx": camera.cx, "cy": camera.cy}
        frame |= {"w": camera.width, "h": camera.height, "timestamp": number / 60}
        frames.append(frame | {"transform_matrix": world_from_camera(view).tolist()})
    document = {"w": camera.width, "h": camera.height, "fl_x": 1.0, "fl_y": 1.0, "cx": 320, "cy": 240}
    document |= {"integer_depth_scale": 10.0 / 65535, "frames": frames}
    (root / "transforms.json").write_text(json.dumps(document))
    return root


WRITERS = {
    writer.__name__: writer
    for writer in (record3d, record3d_export, polycam, scanner_app, stray_scanner, nerfcapture)
}
