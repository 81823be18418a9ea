"""Where results may go: not into a folder that a command reads, whose files they would mix with."""

import re
from pathlib import Path

import pytest

from gsplatloc.arguments import export, from_splat, localization, map, refinement, render, tracking, training
from gsplatloc.utils.errors import GSplatLocError

PARSERS = {
    "localize": localization.parse_localize_arguments,
    "refine": refinement.parse_refine_arguments,
    "render": render.parse_render_arguments,
    "export": export.parse_export_arguments,
    "from-splat": from_splat.parse_from_splat_arguments,
    "track": tracking.parse_tracking_arguments,
    "train": training.parse_train_arguments,
    "map": map.parse_map_arguments,
}
MIXED = [
    "localize -m map --output map",
    "localize -m map --output ./photos/../map",
    "localize -m map --queries photos --output photos/results",
    "localize -m map --queries photos --output photos",
    "localize -m map --queries .",
    "refine -m map --poses poses.txt --output map",
    "refine -m map --poses model --output model",
    "refine -m map --poses poses.txt -s model --output model",
    "refine -m map --poses poses.txt --images photos --output photos/results",
    "render -m map --output map",
    "export -m map --map map",
    "from-splat map -m map",
    "track -s model -m model",
    "train -s model -m ./model",
    "map photos -m photos",
    "from-splat splat.ply -m .",
    "from-splat map/splat.ply -m map",
    "from-splat splat.ply -m other --cameras other/cameras.json",
    "refine -m map --poses map/refined/poses.txt",
    "refine -m map --poses map/localization/poses.txt --output map/localization",
]
APART = [
    "localize -m map",
    "localize -m map --queries map/scene/images",
    "localize -m map --queries photos --output photos-results",
    "refine -m map --poses poses.txt",
    "refine -m map --poses poses.txt --images photos --output out",
    "render -m map",
    "export -m map --map small",
    "from-splat map -m other",
    "track -s model -m model/tracked",
    "train -s model -m model/output",
    "map photos -m photos/map",
    "map video.mp4 -m map",
    "from-splat splat.ply -m out",
    "from-splat splat.ply -m out --cameras map/cameras.json",
    "refine -m map --poses map/localization/poses.txt",
    "localize -m map --queries video.mp4",
]


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (
        "map/point_cloud",
        "map/scene/images",
        "map/refined",
        "map/localization",
        "photos",
        "model",
        "other",
    ):
        Path(folder).mkdir(parents=True)
    files = (
        "map/config.json",
        "map/cameras.json",
        "other/cameras.json",
        "poses.txt",
        "map/refined/poses.txt",
    )
    for file in (*files, "map/localization/poses.txt", "splat.ply", "map/splat.ply", "video.mp4"):
        Path(file).write_text("{}")


def refusal(command: str) -> str:
    """The message of the error that a command ends with; empty if its folders are right."""
    name, *words = command.split()
    try:
        PARSERS[name](words).check()
    except GSplatLocError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("command", MIXED)
def test_results_are_not_mixed_with_what_is_read(command: str) -> None:
    assert re.search("of its own for the results, found .*: pass another --", refusal(command))


@pytest.mark.parametrize("command", APART)
def test_a_folder_of_their_own_is_right(command: str) -> None:
    assert refusal(command) == ""
