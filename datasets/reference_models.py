"""The SfM models of 7-Scenes' pseudo ground truth, whose points initialise the Gaussians of a map."""

from pathlib import Path

from gsplatloc.datasets.command import SetupOptions
from gsplatloc.datasets.download import confirm, download
from gsplatloc.datasets.upstream import REFERENCE_MODELS, REFERENCE_MODELS_FILE, REFERENCE_MODELS_ID
from gsplatloc.scene.cameras import SparsePoints
from gsplatloc.scene.colmap_model import read_model_points
from gsplatloc.utils.archives import extract
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError

# The model whose coordinates the poses are in.
MODEL_OF_POSES = {"original": "old_gt_refined", "calibrated": "old_gt_refined", "pgt": "sfm_gt"}


def fetch_points(options: SetupOptions, scene: str, poses: str, scratch: Path) -> SparsePoints | None:
    """The points of the scene's model; None, with the reason in a log line, if they cannot be downloaded."""
    try:
        archive = _fetch_archive(options)
        folder = f"{scene}/{MODEL_OF_POSES[poses]}/"
        extract(archive, scratch / "models", lambda name: folder in name)
        model = next((scratch / "models").glob(f"**/{folder}points3D.bin"), None)
        if model is None:
            raise GSplatLocError(f"expected {folder}points3D.bin in {archive}, found none")
        return read_model_points(model.parent)
    except (GSplatLocError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        log(f"{scene}: no SfM points ({reason}); mapping will triangulate points")
        return None


def _fetch_archive(options: SetupOptions) -> Path:
    path = options.archive_path(REFERENCE_MODELS, REFERENCE_MODELS_FILE)
    if path.is_file():
        confirm(path)
        return path
    if options.mirror_address:
        return download(REFERENCE_MODELS.address(REFERENCE_MODELS_FILE, options.mirror_address), path)
    try:
        import gdown  # optional: only these models are on Google Drive
    except ImportError:
        raise GSplatLocError("gdown is not installed: pip install gdown") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    try:  # gdown keeps its own partial file and renames it when it is complete
        gdown.download(id=REFERENCE_MODELS_ID, output=str(path), resume=True)
    except (OSError, RuntimeError, gdown.exceptions.DownloadError) as error:
        raise GSplatLocError(f"Google Drive refused: {str(error).strip() or type(error).__name__}") from None
    confirm(path)
    return path
