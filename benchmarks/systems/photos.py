"""Photos and a video to a map by `gsplatloc map`, beside the poses that the data sets state for them.

Two cases: the 128 photos of South Building without their model, and a video of RedKitchen's training images,
every 7th left out. A case is run once by the command of a user; seconds are those that the command states for
its steps, on a machine that should do nothing else. Centres are compared after the similarity transform that
brings them closest, as shares of the extent of the camera path. The reprojection error is the median over all
observations of the model; of COLMAP's SIFT model, too, as it is and after the same robust bundle adjustment.
The images that are left out of the video are localized in its map.
"""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch
import tyro
from torch import Tensor

from benchmarks import DATA, OUTPUT, RESULTS, ROOT
from benchmarks.accuracy.scenes import every_7th_left_out, extent_of, path_extent
from benchmarks.harness.measuring import run_gsplatloc
from benchmarks.harness.results import (
    Record,
    RecordArguments,
    Row,
    error_text,
    number,
    origin_line,
    percent,
    publish,
    table,
)
from gsplatloc.localization.evaluation import pose_error
from gsplatloc.localization.io.poses import read_poses
from gsplatloc.mapping.posing.tracks import adjust_and_filter
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import View
from gsplatloc.utils import se3
from gsplatloc.utils.colmap import pycolmap
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError

_FRAMES_PER_SECOND = 10
_STEP = re.compile(r"([a-z][a-z ]*) (\d+) s(?=[,)])")  # of "posing     84 s (features 9 s, matching 75 s)"


@dataclass(frozen=True)
class PhotosArguments(RecordArguments):
    """Which cases are run, and where results go."""

    cases: tuple[str, ...] = ("photos", "video")  # photos of South Building, a video of RedKitchen
    data: Path = DATA  # folder of the data sets; default: $GSPLATLOC_DATA
    iterations: int | None = None  # number of training steps; unset = the preset's
    output: Path = OUTPUT / "photos"  # folder for the photos, the video and the maps
    results: Path = RESULTS / "photos.json"  # file of results


@dataclass(frozen=True)
class Case:
    """What is mapped, and the true poses."""

    source: Path  # folder of photos, or a video
    truth: dict[str, Tensor]  # cam_from_world of the images, by the names that they have in the map's scene
    extent: float  # of the camera path, in the unit of the true poses
    sift: Path | None = None  # COLMAP's model of the same images
    queries: Sequence[View] = ()  # that are not in `source`


def main() -> None:
    arguments = tyro.cli(PhotosArguments, description=__doc__)
    record = Record(arguments.results, arguments.keep)
    for name in arguments.cases:
        if name not in CASES:
            raise GSplatLocError(f"expected --cases of {' '.join(CASES)}, found {name}: correct it")
        key = {"case": name, "iterations": arguments.iterations}
        if record.find(**key) is None:
            work = arguments.output / name
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            figures = measure(CASES[name](arguments.data, work), work, arguments.iterations)
            log(" | ".join(_line(record.put(key, figures))))
    if arguments.publish:
        publish_photos(record.rows)


def south_building(data: Path, work: Path) -> Case:
    """The photos alone; the truth is COLMAP's model of their SIFT keypoints."""
    source = work / "photos"
    model = data / "colmap_south_building" / "sparse" / "0"
    shutil.copytree(data / "colmap_south_building" / "images", source)
    images = pycolmap.Reconstruction(str(model)).images.values()
    truth = {image.name: _matrix(image) for image in images if image.has_pose}
    return Case(source, truth, extent_of(torch.stack([*truth.values()])), model)


def red_kitchen(data: Path, work: Path) -> Case:
    """A video of 150 training images; the truth is the pseudo ground truth by SIFT."""
    shown, left_out = every_7th_left_out(read_scene(data / "pgt_7scenes_redkitchen").train)
    video = work / "video.mp4"
    size = shown[0].camera.width, shown[0].camera.height
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), _FRAMES_PER_SECOND, size)
    for view in shown:
        writer.write(view.load_image()[..., ::-1])
    writer.release()
    truth = {f"frame_{index:05d}.jpg": view.cam_from_world for index, view in enumerate(shown)}
    return Case(video, truth, path_extent(shown), None, left_out)


CASES = {"photos": south_building, "video": red_kitchen}


def measure(case: Case, work: Path, iterations: int | None) -> Row:
    """Make the map, and compare its poses with the truth."""
    output, steps = work / "map", [] if iterations is None else ["--iterations", iterations]
    words = ["map", case.source, "-m", output, "--frames", len(case.truth), *steps]
    cost = run_gsplatloc(words, work / "map.log")
    model = pycolmap.Reconstruction(str(output / "scene" / "sparse" / "0"))
    posed = {image.name: _matrix(image) for image in model.images.values() if image.has_pose}
    scale, motion, errors = aligned(posed, case.truth)
    row: Row = {
        "count": len(case.truth),
        "posed": len(posed),
        "center_median": float(errors.median()) / case.extent,
        "center_max": float(errors.max()) / case.extent,
        "reprojection_px": reprojection_px(model),
        **_of_sift(case.sift),
        "seconds": cost.seconds,
        "steps": seconds_of_steps((work / "map.log").read_text()),
        "peak_bytes": cost.peak_bytes,
    }
    return row | _localized(case, work, scale, motion)


def aligned(posed: dict[str, Tensor], truth: dict[str, Tensor]) -> tuple[float, Tensor, Tensor]:
    """(scale, rigid motion [4, 4] of the scaled poses, distances [N] of their centres from the true ones)."""
    names = sorted(posed.keys() & truth.keys())
    ours, true = (se3.camera_center(torch.stack([poses[name] for name in names])) for poses in (posed, truth))
    from_mean, to_mean = ours - ours.mean(0), true - true.mean(0)
    turned = from_mean @ se3.rigid_motion(ours, true)[:3, :3].T  # the rotation does not depend on the scale
    scale = float((turned * to_mean).sum() / from_mean.square().sum())
    motion = se3.rigid_motion(scale * ours, true)
    moved = scale * ours @ motion[:3, :3].T + motion[:3, 3]
    return scale, motion, (moved - true).norm(dim=1)


def reprojection_px(model: pycolmap.Reconstruction) -> float:
    """Median over all observations, in pixels."""
    errors = []
    for point in model.points3D.values():
        for element in point.track.elements:
            image = model.images[element.image_id]
            shown = model.cameras[image.camera_id].img_from_cam(image.cam_from_world() * point.xyz)
            errors.append(np.linalg.norm(shown - image.points2D[element.point2D_idx].xy))
    return float(np.median(errors))


def seconds_of_steps(text: str) -> dict[str, float]:
    """By step, from the lines "posing" and "time" of the command's output."""
    lines = [line for line in text.splitlines() if line.startswith(("posing ", "time "))]
    steps: dict[str, float] = {}
    for line in lines:
        for name, seconds in _STEP.findall(line.partition("(")[2]):
            steps[name] = steps.get(name, 0.0) + float(seconds)
    return steps


def publish_photos(rows: Sequence[Row], root: Path = ROOT) -> list[Path]:
    """Write the table between the marks of `photos`."""
    header = ["case", "posed", "centre, median", "centre, worst", "reprojection", "SIFT", "adjusted",
              "left out", "minutes"]  # fmt: skip
    return publish({"photos": f"{origin_line(rows)}\n\n{table(header, map(_line, rows))}"}, root)


def _of_sift(path: Path | None) -> Row:
    """Reprojection errors of COLMAP's model: as it is, and after the bundle adjustment that ours has had."""
    if path is None:
        return {"sift_px": None, "sift_adjusted_px": None}
    model = pycolmap.Reconstruction(str(path))
    as_it_is = reprojection_px(model)
    adjust_and_filter(model)
    return {"sift_px": as_it_is, "sift_adjusted_px": reprojection_px(model)}


def _localized(case: Case, work: Path, scale: float, motion: Tensor) -> Row:
    """Errors of the images that are left out, in the map, in the unit of the true poses."""
    if not case.queries:
        return {}
    folder = work / "queries"
    folder.mkdir()
    for view in case.queries:
        cv2.imwrite(str(folder / f"{Path(view.name).stem}.png"), view.load_image()[..., ::-1])
    words = ["localize", "-m", work / "map", "--queries", folder, "--no_pictures"]
    run_gsplatloc(words, work / "localize.log")
    found = {name: record.cam_from_world for name, record in
             read_poses(work / "map" / "queries" / "poses.txt").items()}  # fmt: skip
    for pose in found.values():
        pose[:3, 3] *= scale
    world = se3.inverse(motion)
    names = [f"{Path(view.name).stem}.png" for view in case.queries]
    errors = [
        pose_error(found[name] @ world if name in found else None, view.cam_from_world)
        for name, view in zip(names, case.queries)
    ]
    return {
        "queries": len(errors),
        "queries_m": median(error.translation_m for error in errors),
        "queries_deg": median(error.rotation_deg for error in errors),
    }


def _matrix(image: pycolmap.Image) -> Tensor:
    return torch.from_numpy(np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]]))


def _line(row: Row) -> list[str]:
    posed = f"{row['posed']} of {row['count']}"
    centers = [percent(row[name], 3) for name in ("center_median", "center_max")]
    pixels = [number(row[name], 3, unit=" px") for name in ("reprojection_px", "sift_px", "sift_adjusted_px")]
    left_out = error_text(row.get("queries_m"), row.get("queries_deg"), 2)
    steps = ", ".join(f"{name} {number(seconds)} s" for name, seconds in row["steps"].items())
    minutes = f"{number(row['seconds'], 1, 1 / 60)} ({steps})"
    return [row["case"], posed, *centers, *pixels, left_out, minutes]
