"""Poses of images by COLMAP's incremental mapping (Schoenberger and Frahm, CVPR 2016)."""

from pathlib import Path

from gsplatloc.datasets.options import MappingOptions, Matching
from gsplatloc.scene.image_files import image_files
from gsplatloc.scene.image_header import exif_focal_mm, image_size
from gsplatloc.scene.incremental_mapping import largest_model, model_line
from gsplatloc.utils.archives import check_free_space
from gsplatloc.utils.colmap import pycolmap, working_in
from gsplatloc.utils.console import log

_EXHAUSTIVE_LIMIT = 200  # images up to which `auto` matches every pair
_BYTES_PER_FEATURE = 400  # in COLMAP's database: position and descriptor 152, the rest for matches
_CAMERA_MODES = {
    "single": pycolmap.CameraMode.SINGLE,
    "per_folder": pycolmap.CameraMode.PER_FOLDER,
    "per_image": pycolmap.CameraMode.PER_IMAGE,
}


def reconstruct(images: Path, model: Path, scratch: Path, count: int, options: MappingOptions) -> None:
    """Write the largest COLMAP model of the `count` images below `images` into the folder `model`.

    Raises `GSplatLocError` if COLMAP connects fewer than three of them.
    """
    # A full disk would abort the process within COLMAP.
    needed = count * options.max_features * _BYTES_PER_FEATURE
    check_free_space(needed, scratch, "choose a smaller --max-features")
    database = scratch / "database.db"
    pycolmap.logging.minloglevel = int(pycolmap.logging.FATAL)  # what fails raises an exception as well
    log(f"extracting features of {count} images")
    with working_in(scratch):
        extract_features(database, images, options)
        _match(database, count, options.matching)
        largest = largest_model(database, images, scratch / "models", count)
        model.mkdir(parents=True)
        largest.write_binary(str(model))
    log(model_line(largest, count))


def extract_features(database: Path, images: Path, options: MappingOptions) -> None:
    """Keypoints of every image, and the cameras that images share.

    Images of different sizes, or focal lengths in EXIF data, are never of one camera: COLMAP would leave out
    portrait photos among landscape ones, and give a phone's wide and long lens one focal length.
    """
    extraction = pycolmap.FeatureExtractionOptions()
    extraction.sift.max_num_features = options.max_features
    reader = pycolmap.ImageReaderOptions(camera_model=options.camera_model)
    groups: dict[tuple[int, int, float], list[str]] = {}
    for path in image_files(images):
        key = (*image_size(path), exif_focal_mm(path))
        groups.setdefault(key, []).append(path.relative_to(images).as_posix())
    for names in groups.values():
        pycolmap.extract_features(database, images, names, _CAMERA_MODES[options.cameras], reader, extraction)


def _match(database: Path, count: int, matching: Matching) -> None:
    if matching == "sequential" or (matching == "auto" and count > _EXHAUSTIVE_LIMIT):
        log("matching neighbours")
        pycolmap.match_sequential(database)
    else:
        log(f"matching {count * (count - 1) // 2} pairs")
        pycolmap.match_exhaustive(database)
