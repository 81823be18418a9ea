"""A map of poses that are only roughly right, refined while it is made, beside a map of the true poses.

RedKitchen's training images without their depth: every 7th is left out and localized, the others are mapped
three times: with their true poses, with poses that are moved by 2 cm and turned by 1 degree in random
directions, and with these poses refined (`--refine_poses True`). No test image is used. A map of rough poses
is in coordinates of its own, by a few millimetres; *aligned* is the error after the rigid motion that brings
its mapping cameras, their centres and the points a metre from these along their axes, closest to the true
ones.
"""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor

from benchmarks import DATA, OUTPUT, RESULTS, ROOT
from benchmarks.accuracy.scenes import every_7th_left_out, stem, write_posed_folders
from benchmarks.harness.measuring import map_scene, run_gsplatloc
from benchmarks.harness.results import Record, RecordArguments, Row, error_text, origin_line, publish, table
from gsplatloc.localization.evaluation import pose_distances
from gsplatloc.localization.io import FOLDER_NAME
from gsplatloc.localization.io.poses import read_poses
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import View
from gsplatloc.scene.map_config import CAMERAS_NAME, map_frame, read_cameras
from gsplatloc.utils import se3
from gsplatloc.utils.console import log

KINDS = ("true poses", "rough poses", "rough poses, refined")
_MOVED_M, _TURNED_DEG = 0.02, 1.0

Errors = tuple[float, float]  # medians, metres and degrees


@dataclass(frozen=True)
class RoughPosesArguments(RecordArguments):
    """How the maps are made, and where results go."""

    data: Path = DATA  # folder of the data sets; default: $GSPLATLOC_DATA
    iterations: int | None = None  # number of training steps; unset = the preset's
    output: Path = OUTPUT / "rough-poses"  # folder for the scenes and the maps
    results: Path = RESULTS / "rough_poses.json"  # file of results


def main() -> None:
    arguments = tyro.cli(RoughPosesArguments, description=__doc__)
    record = Record(arguments.results, arguments.keep)
    views = read_scene(arguments.data / "pgt_7scenes_redkitchen").train
    for kind in KINDS:
        key = {"kind": kind, "iterations": arguments.iterations}
        if record.find(**key) is None:
            work = arguments.output / kind.replace(", ", "-").replace(" ", "-")
            shutil.rmtree(work, ignore_errors=True)
            log(" | ".join(_line(record.put(key, measure(kind, views, work, arguments.iterations)))))
    if arguments.publish:
        publish_rough_poses(record.rows)


def measure(kind: str, views: Sequence[View], work: Path, iterations: int | None) -> Row:
    """Map all views but those left out, and localize these."""
    mapped, left_out = every_7th_left_out(views)
    truth = _poses(mapped)
    given = truth if kind == KINDS[0] else disturbed(truth)
    scene, output = work / "scene", work / "map"
    write_posed_folders(scene / "train", _named(mapped, given))
    write_posed_folders(scene / "test", _named(left_out, _poses(left_out)))
    steps = [] if iterations is None else ["--iterations", iterations]
    cost = map_scene(scene, output, work / "train.log", ["--refine_poses", kind == KINDS[2], *steps])
    run_gsplatloc(["localize", "-m", output, "--no_pictures"], work / "localize.log")
    frame = map_frame(output)
    cameras = read_cameras(output / CAMERAS_NAME)
    found = {stem(camera.name): frame.pose_in_world(camera.cam_from_world) for camera in cameras}
    ours = torch.stack([found[stem(view.name)] for view in mapped])
    motion = se3.rigid_motion(_corners(ours), _corners(truth))
    records = read_poses(output / FOLDER_NAME / "poses.txt").values()
    localized = {stem(record.name): record.cam_from_world for record in records}
    queries = {stem(view.name): view.cam_from_world for view in left_out}
    row: Row = {"count": len(queries), "failed": len(queries.keys() - localized.keys())}
    row["seconds"] = cost.seconds
    none = torch.full((4, 4), math.nan, dtype=torch.float64)
    estimates = torch.stack([localized.get(name, none) for name in queries])
    right = torch.stack(list(queries.values()))
    for name, change in (("", torch.eye(4, dtype=torch.float64)), ("aligned_", se3.inverse(motion))):
        row[f"{name}mapping_m"], row[f"{name}mapping_deg"] = medians(ours @ change, truth)
        row[f"{name}queries_m"], row[f"{name}queries_deg"] = medians(estimates @ change, right)
    return row


def disturbed(poses: Tensor) -> Tensor:
    """Cameras moved by `_MOVED_M` and turned by `_TURNED_DEG`, in random directions."""
    draws = torch.randn(2, len(poses), 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    away, axis = F.normalize(draws, dim=2)
    return se3.se3_exp(torch.cat([_MOVED_M * away, math.radians(_TURNED_DEG) * axis], 1)) @ poses


def medians(poses: Tensor, truth: Tensor) -> Errors:
    """Medians of the errors of poses [N, 4, 4]; the error of a pose that is NaN is infinite."""
    both = pose_distances(poses, truth)
    metres, degrees = (errors.nan_to_num(math.inf).median().item() for errors in both)
    return metres, degrees


def publish_rough_poses(rows: Sequence[Row], root: Path = ROOT) -> list[Path]:
    """Write the table between the marks of `rough_poses`."""
    header = ["map of", "its cameras", "aligned", "localized", "aligned", "failed"]
    return publish({"rough_poses": f"{origin_line(rows)}\n\n{table(header, map(_line, rows))}"}, root)


def _poses(views: Sequence[View]) -> Tensor:
    return torch.stack([view.cam_from_world for view in views])


def _corners(poses: Tensor) -> Tensor:
    """The centres of cameras and the points a metre from them along their axes, [4 N, 3]."""
    in_camera = torch.cat([torch.zeros(1, 3), torch.eye(3)]).to(poses)
    world_from_camera = se3.inverse(poses)
    points = in_camera @ world_from_camera[:, :3, :3].mT + world_from_camera[:, None, :3, 3]
    return points.reshape(-1, 3)


def _named(views: Sequence[View], poses: Tensor) -> list[tuple[str, View]]:
    """Views with these poses by the stem of their files: frame-000001 of frame-000001.color.jpg."""
    return [(stem(view.name), view.with_pose(pose)) for view, pose in zip(views, poses)]


def _line(row: Row) -> list[str]:
    kinds = ("mapping", "aligned_mapping", "queries", "aligned_queries")
    errors = [error_text(row[f"{kind}_m"], row[f"{kind}_deg"], 2) for kind in kinds]
    return [row["kind"], *errors, f"{row['failed']} of {row['count']}"]
