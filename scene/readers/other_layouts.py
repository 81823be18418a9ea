"""Folders of other programs, which no reader reads: what they are, and what to do with them."""

from pathlib import Path

_COLMAP = "export the poses as a COLMAP model"
# What is in a folder (a pattern of `Path.glob`) -> what the folder is, and what to do.
_LAYOUTS = {
    "point_cloud/iteration_*": ("a map, no scene", "pass the scene that it was made from"),
    "config.json": ("a map, no scene", "pass the scene that it was made from"),
    "TrainSplit.txt": ("7-Scenes as it is distributed", "gsplatloc setup 7scenes prepares it"),
    "*/split.txt": ("12-Scenes as it is distributed", "gsplatloc setup 12scenes prepares it"),
    "dataset_train.txt": (
        "Cambridge Landmarks as it is distributed",
        "gsplatloc setup cambridge prepares it",
    ),
    "dslr/nerfstudio/transforms*.json": (
        "a scene of ScanNet++",
        "copy its transforms.json beside a folder images/",
    ),
    "*.xml": ("cameras of Metashape", f"{_COLMAP} (Metashape: File, Export, Export Cameras)"),
    "mav0": ("a sequence of EuRoC", "write its images and poses as a sequence of TUM RGB-D"),
    "image_[0-9]/*.png": (
        "a sequence of KITTI",
        "write its poses in the layout train/{rgb,poses,calibration}",
    ),
    "*.bag": ("a recording of ROS", "extract its images and poses as a sequence of TUM RGB-D"),
    "*.db3": ("a recording of ROS", "extract its images and poses as a sequence of TUM RGB-D"),
    "*.mcap": ("a recording of ROS", "extract its images and poses as a sequence of TUM RGB-D"),
    "color/*.jpg": ("a scan of ScanNet", "write its poses in the layout train/{rgb,poses,calibration}"),
    "*bundle*.out": ("a model of Bundler", _COLMAP),
    "*.nvm": ("a model of VisualSFM", _COLMAP),
    "reconstruction.json": ("a model of OpenSfM", f"{_COLMAP} (opensfm export_colmap)"),
    "sfm_data.*": ("a model of OpenMVG", f"{_COLMAP} (openMVG_main_openMVG2Colmap)"),
    "sensors/sensors.txt": ("a data set of kapture", f"{_COLMAP} (kapture_export_colmap.py)"),
    "poses_bounds.npy": ("a scene of LLFF", "use the COLMAP model that it was made from"),
    "meta_data.json": ("a scene of SDFStudio", "write its poses as transforms.json"),
    "database.db": ("a database of COLMAP without its model", "run the mapper of COLMAP"),
    "*.ply": ("a splat or points, no images with poses", "gsplatloc from-splat makes a map of a splat"),
}


def other_layout(path: Path) -> tuple[str, str] | None:
    """What a folder is that no reader reads, and what to do; None if it is not known."""
    return next((known for pattern, known in _LAYOUTS.items() if next(path.glob(pattern), None)), None)
