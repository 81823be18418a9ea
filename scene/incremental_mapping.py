"""COLMAP's incremental mapping (Schoenberger and Frahm, CVPR 2016) of a database, with progress."""

from pathlib import Path

from gsplatloc.utils.colmap import pycolmap
from gsplatloc.utils.console import ProgressBar
from gsplatloc.utils.errors import GSplatLocError

FEWEST_POSED = 3  # COLMAP's initial pair alone is no map

# Where few pairs see their points under COLMAP's 16 degrees, as inside a room, the pairs of which it is
# estimated are those with a wrong pose: the model then starts from one, and ends as a depth-reversed place.
_INITIAL_ANGLE_DEG = 6.0  # between the rays of a point, median of the initial pair


def largest_model(
    database: Path, images: Path, models: Path, count: int, quiet: bool = False, draft: bool = False
) -> pycolmap.Reconstruction:
    """The model with the most of the `count` images; `models` is a new folder for COLMAP's output.

    Poses, points and cameras are refined together by bundle adjustment. `draft`: for a model that will be
    refined; it takes a fifth of the time, and its points have no colours. Raises `GSplatLocError` if COLMAP
    connects fewer than three images.
    """
    models.mkdir()
    with ProgressBar(count, "posing images", quiet=quiet) as bar:
        options = pycolmap.IncrementalPipelineOptions(random_seed=0)
        options.mapper.init_min_tri_angle = _INITIAL_ANGLE_DEG
        # Images without common points: of 24 photos that took six minutes and registered none of six.
        options.structure_less_registration_fallback = False
        if draft:
            _adjust_less(options)
        found = pycolmap.incremental_mapping(
            database, images, models, options, next_image_callback=bar.advance
        )
    largest = max(found.values(), key=lambda candidate: candidate.num_reg_images(), default=None)
    if largest is None or largest.num_reg_images() < min(FEWEST_POSED, count):
        posed = 0 if largest is None else largest.num_reg_images()
        raise GSplatLocError(
            f"expected {count} images that overlap, found {posed} that COLMAP could connect:"
            " take more, closer together, of a textured place"
        )
    return largest


def _adjust_less(options: pycolmap.IncrementalPipelineOptions) -> None:
    """Adjust all images whenever the model has grown by 40 % instead of 10 %, without redundant points."""
    options.ba_global_frames_ratio = options.ba_global_points_ratio = 1.4
    options.ba_global_max_refinements = options.ba_local_max_refinements = 1
    options.ba_global_max_num_iterations, options.ba_local_max_num_iterations = 20, 10
    options.mapper.ba_global_ignore_redundant_points3D = True
    options.extract_colors = False


def model_line(model: pycolmap.Reconstruction, count: int) -> str:
    """What was posed, in one line."""
    error = model.compute_mean_reprojection_error()
    posed = f"posed {model.num_reg_images()} of {count} images, {model.num_points3D()} points, {error:.2f} px"
    if model.num_reg_images() == count:
        return posed
    return f"{posed}; the others overlap with too few images, or belong to another place"
