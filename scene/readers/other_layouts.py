"""Folders of other programs, which no reader reads: what they are, and what to do with them."""

from dataclasses import dataclass
from pathlib import Path

_COLMAP = "export the poses as a COLMAP model"
_POSED = "write its poses in the layout train/{rgb,poses,calibration}"
_TUM = "extract its images and poses as a sequence of TUM RGB-D"
_BEGINNING = 65_536  # bytes of a file that are searched for a word


@dataclass(frozen=True)
class _Layout:
    found: str  # what a folder is
    action: str  # what to do with it
    files: tuple[str, ...]  # patterns of `Path.glob`, of which each is of a file or folder in it
    words: tuple[str, ...] = ()  # near the beginning of a file of the first pattern


_LAYOUTS = (
    _Layout("a map, no scene", "pass the scene that it was made from", ("point_cloud/iteration_*",)),
    _Layout(
        "a map, no scene",
        "pass the scene that it was made from",
        ("config.json",),
        ('"source_path"', '"format"'),
    ),
    _Layout("7-Scenes as it is distributed", "gsplatloc setup 7scenes prepares it", ("TrainSplit.txt",)),
    _Layout(
        "12-Scenes as it is distributed",
        "gsplatloc setup 12scenes prepares it",
        ("*/split.txt",),
        ("sequence0", "frames="),
    ),
    _Layout(
        "Cambridge Landmarks as it is distributed",
        "gsplatloc setup cambridge prepares it",
        ("dataset_train.txt",),
    ),
    _Layout(
        "a scene of ScanNet++",
        "copy its transforms.json beside a folder images/",
        ("dslr/nerfstudio/transforms*.json",),
    ),
    _Layout(
        "cameras of Metashape",
        f"{_COLMAP} (Metashape: File, Export, Export Cameras)",
        ("*.xml",),
        ("<document", "<chunk"),
    ),
    _Layout("cameras of RealityCapture", _COLMAP, ("*.csv",), ("#name", "heading")),
    _Layout("a sequence of EuRoC", "write its images and poses as a sequence of TUM RGB-D", ("mav0",)),
    _Layout("a sequence of KITTI", _POSED, ("image_[0-9]/[0-9]*.png", "calib*.txt")),
    _Layout("a recording of ROS", _TUM, ("*.bag",), ("#ROSBAG",)),
    _Layout("a recording of ROS", _TUM, ("*.db3",)),
    _Layout("a recording of ROS", _TUM, ("*.mcap",)),
    _Layout("a scan of ScanNet", _POSED, ("color/*.jpg", "pose/*.txt")),
    _Layout("a scan of ARKitScenes", _POSED, ("*.traj",)),
    _Layout(
        "an RGB-D sequence with a list of associations (ORB-SLAM)",
        "write its columns as rgb.txt and depth.txt (time file)",
        ("assoc*.txt", "rgb/*", "depth/*"),
    ),
    _Layout("a scene of NSVF", _POSED, ("intrinsics.txt", "pose/*.txt", "rgb/*")),
    _Layout("a scene of MVSNet", _POSED, ("cams/*_cam.txt",), ("extrinsic",)),
    _Layout("a scene of IDR", "write its poses as transforms.json", ("cameras*.npz", "image/*")),
    _Layout("a model of Bundler", _COLMAP, ("*bundle*.out",), ("# Bundle file",)),
    _Layout("a model of VisualSFM", _COLMAP, ("*.nvm",), ("NVM_V3",)),
    _Layout(
        "a model of OpenSfM", f"{_COLMAP} (opensfm export_colmap)", ("reconstruction.json",), ('"shots"',)
    ),
    _Layout("a model of OpenMVG", f"{_COLMAP} (openMVG_main_openMVG2Colmap)", ("sfm_data.*",)),
    _Layout("a data set of kapture", f"{_COLMAP} (kapture_export_colmap.py)", ("sensors/sensors.txt",)),
    _Layout("a scene of LLFF", "use the COLMAP model that it was made from", ("poses_bounds.npy",)),
    _Layout(
        "a scene of SDFStudio", "write its poses as transforms.json", ("meta_data.json",), ('"camtoworld"',)
    ),
    _Layout(
        "a database of COLMAP without its model",
        "run the mapper of COLMAP",
        ("database.db",),
        ("SQLite format 3\0", "keypoints", "cameras"),
    ),
    _Layout(
        "a splat or points, no images with poses", "gsplatloc from-splat makes a map of a splat", ("*.ply",)
    ),
)


def other_layout(path: Path) -> tuple[str, str] | None:
    """What a folder is that no reader reads, and what to do; None if it is not known."""
    return next(((layout.found, layout.action) for layout in _LAYOUTS if _is(layout, path)), None)


def _is(layout: _Layout, path: Path) -> bool:
    if not all(next(path.glob(pattern), None) for pattern in layout.files):
        return False
    return not layout.words or any(_holds(file, layout.words) for file in path.glob(layout.files[0]))


def _holds(path: Path, words: tuple[str, ...]) -> bool:
    """Whether all words stand near the beginning of a file."""
    try:
        with path.open("rb") as file:
            beginning = file.read(_BEGINNING)
    except OSError:
        return False
    return all(word.encode() in beginning for word in words)
