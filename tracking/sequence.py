"""RGB-D sequences of any layout, in the order of time, with the ground truth where there is one."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.scene.cameras import View
from gsplatloc.scene.readers.tally import Tally
from gsplatloc.scene.readers.tum_rgbd import TOLERANCE, TumRgbdReader, read_frames, read_truth
from gsplatloc.scene.trajectory import Trajectory, associate
from gsplatloc.tracking.options import Split
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import expanded

FRAME_RATE = 30.0  # Hz, where a layout gives no time


@dataclass(frozen=True)
class RgbdSequence:
    """The input of a tracker. The poses of the views are not used; `truth` is for evaluation.

    If the ground truth covers the time of any image, it covers that of the first.
    """

    name: str
    views: list[View]  # all with depth, in the order of time
    timestamps: np.ndarray  # [N] float64 seconds
    truth: Trajectory | None
    report: str = ""  # one line: what the reader found, used and left out, and why
    root: Path = Path()  # folder that it was read from

    def first_pose(self) -> Tensor:
        """The pose [4, 4] that fixes the world frame: the first image's ground truth, or the identity."""
        if self.truth is not None:
            _, index = associate(self.timestamps[:1], self.truth.timestamps, TOLERANCE)
            if len(index):
                return self.truth.cam_from_world[int(index[0])]
        return torch.eye(4, dtype=torch.float64)


def read_sequence(
    path: Path | str, options: SceneOptions | None = None, split: Split = "all", frames: slice = slice(None)
) -> RgbdSequence:
    """The RGB-D sequence in a folder, or the part of it that `split` and then `frames` choose.

    TUM folders need no ground truth; where it begins later than the images, so does the sequence, whose world
    frame is that of the ground truth. Images of other layouts are sorted by name, with timestamps 1/30 s
    apart.
    """
    path = expanded(path)
    options = options or SceneOptions()
    if TumRgbdReader().matches(path):
        tally = Tally()
        views, truth = read_frames(path, options, tally), read_truth(path)
        report = tally.scene(path, views, []).report
        name = path.resolve().name
    else:
        scene = read_scene(path, options)
        report = scene.report
        views, truth, name = _stamped(scene.train, scene.test, split), None, scene.name
    views = [view for view in views if view.load_depth is not None][frames]
    if truth is not None:
        views = _from_first_truth(path, views, truth)
    if len(views) < 2:
        raise GSplatLocError(
            f"expected at least two images with depth in {path}, found {len(views)}: choose another scene,"
            " split or range of frames"
        )
    stamps = np.array([view.timestamp for view in views])
    if truth is None and not TumRgbdReader().matches(path):
        truth = Trajectory(stamps, torch.stack([view.cam_from_world for view in views]))
    return RgbdSequence(name, views, stamps, truth, report, path)


def _from_first_truth(path: Path, views: list[View], truth: Trajectory) -> list[View]:
    """Without the views before the first that has a ground-truth pose; all of them where none has."""
    known, _ = associate(np.array([view.timestamp for view in views]), truth.timestamps, TOLERANCE)
    first = int(known[0]) if len(known) else 0
    if first:
        log(f"{path}: skipped {first} images: before the first ground-truth pose", stream=sys.stderr)
    return views[first:]


def _stamped(train: list[View], test: list[View], split: Split) -> list[View]:
    """The views of a split by name, each with its time, or the time that follows from its index."""
    ordered = sorted([*train, *test], key=lambda view: view.name)
    stamped = [
        view if view.timestamp is not None else replace(view, timestamp=index / FRAME_RATE)
        for index, view in enumerate(ordered)
    ]
    wanted = {view.name for view in {"all": ordered, "train": train, "test": test}[split]}
    return [view for view in stamped if view.name in wanted]
