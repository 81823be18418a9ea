"""Pose files of other estimators: which file is of which scene, and by which estimator.

Names follow the published ones: `estimate_chess_hloc.txt` and `estimate_chess_dsac_rgb.txt` (Brachmann et al.
2021), `poses_pgt_7scenes_chess_ace.txt` (ACE), `DFNet/chess.txt`.
"""

import re
from pathlib import Path

from gsplatloc.utils.errors import GSplatLocError

_COMMON = {"estimate", "estimates", "estimated", "poses", "pose", "pgt", "7scenes", "coarse"}
_TRUTH = re.compile(r"(pgt_)?[^_]+_(train|test)")  # the pseudo ground truth's own files


def find_pose_files(folder: Path | None, scene: str) -> dict[str, Path]:
    """The files of a scene by estimator; raises `GSplatLocError` if there are none."""
    if folder is None:
        raise GSplatLocError("expected --poses FOLDER with pose files of an estimator, found none: pass it")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.txt")):
        words = path.stem.replace("-", "_").split("_")
        if scene not in words or _TRUTH.fullmatch(path.stem):
            continue
        rest = [word for word in words if word and word != scene and word not in _COMMON]
        found.setdefault("_".join(rest) or path.parent.name, path)
    if not found:
        raise GSplatLocError(
            f"expected a pose file of {scene} below {folder}, found none: its name contains the scene's,"
            f" as estimate_{scene}_hloc.txt or ACE/{scene}.txt"
        )
    return found
