"""The command lines of gsplatloc render and gsplatloc view."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from gsplatloc.arguments.command_line import parse
from gsplatloc.localization.io import FOLDER_NAME, JSON_LINES_NAME, QUERIES_FOLDER_NAME
from gsplatloc.scene.map_folder import CAMERAS_NAME, TILES_NAME, require_splat
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.paths import require_output_folder, require_path

Split = Literal["path", "train", "test"]


@dataclass(frozen=True)
class RenderArguments:
    """The options of gsplatloc render."""

    model_path: Annotated[Path, tyro.conf.arg(aliases=["-m"])]
    """folder of the map, as gsplatloc train wrote it"""
    split: Split = "path"
    """cameras: a smooth path through the training cameras, or those of the training or of the test images"""
    poses: Path | None = None
    """file of poses `name qw qx qy qz tx ty tz [focal]` (cam_from_world), instead of --split"""
    iteration: int | None = None
    """iteration of the map; unset = the latest"""
    output: Path | None = None
    """folder for the images; unset = MODEL_PATH/renders/SPLIT"""
    frames: int = 120
    """number of cameras on the path"""
    depth: bool = True
    """render depth; near is red, far is blue"""
    features: bool = True
    """render descriptors; their three principal components are shown as colours"""
    video: bool = True
    """write film.mp4 with all renderings of a camera side by side"""
    fps: int = 30
    """frames per second of the film"""
    device: str = "auto"
    """device of the map: auto (a GPU where one can be used), cpu, cuda or cuda:N"""

    def __post_init__(self) -> None:
        if self.frames < 1 or self.fps < 1:
            raise GSplatLocError("expected --frames and --fps of at least 1: correct them")

    def check(self) -> None:
        """Raise `GSplatLocError` for a wrong path: before anything is loaded."""
        require_splat(self.model_path)
        require_path(self.model_path / CAMERAS_NAME, "the cameras of a map", "--model_path")
        require_path(self.poses, "a file of poses", "--poses")
        require_output_folder(self.folder(), "--output", [self.model_path])

    def folder(self) -> Path:
        """Where the images go."""
        chosen = self.split if self.poses is None else self.poses.stem
        return self.output or self.model_path / "renders" / chosen


@dataclass(frozen=True)
class ViewArguments:
    """The options of gsplatloc view."""

    model_path: Annotated[Path, tyro.conf.arg(aliases=["-m"])]
    """folder of a map, or any .ply of 3D Gaussians"""
    results: Path | None = None
    """folder of localize's results to show; unset = MODEL_PATH/localization and MODEL_PATH/queries, if any"""
    iteration: int | None = None
    """iteration of the map; unset = the latest"""
    ip: str = "127.0.0.1"
    """address to serve at; 0.0.0.0 also serves other machines, without a password"""
    port: int = 8080
    """port to serve at; the next free one if it is in use"""
    allowed_hosts: tuple[str, ...] = ()
    """further names under which browsers reach this machine; localhost and its addresses need none"""

    def check(self) -> None:
        """Raise `GSplatLocError` for a wrong path: before anything is loaded."""
        require_splat(self.model_path)
        if (self.model_path / TILES_NAME).is_file():
            raise GSplatLocError(
                f"expected one map or a splat in {self.model_path}, found a map in tiles: view one of them,"
                f" such as {self.model_path / 'tiles' / '000'}"
            )
        self.result_folders()

    def result_folders(self) -> list[Path]:
        """The folders with localized queries to show."""
        folders = [self.model_path / name for name in (FOLDER_NAME, QUERIES_FOLDER_NAME)]
        if self.results is not None and not (self.results / JSON_LINES_NAME).is_file():
            raise GSplatLocError(
                f"expected {JSON_LINES_NAME} of gsplatloc localize in {self.results}, found none:"
                " localize again"
            )
        chosen = folders if self.results is None else [self.results]
        return [folder for folder in chosen if (folder / JSON_LINES_NAME).is_file()]


def parse_render_arguments(argv: Sequence[str] | None = None) -> RenderArguments:
    """The arguments of a command line, `sys.argv` by default; wrong usage exits with code 2."""
    return parse(
        RenderArguments,
        "Render a map: colour, depth and descriptors as images and a film.",
        argv,
        examples=(
            "gsplatloc render -m my_map",
            "gsplatloc render -m my_map --poses poses.txt",
        ),
    )


def parse_view_arguments(argv: Sequence[str] | None = None) -> ViewArguments:
    """The arguments of a command line, `sys.argv` by default; wrong usage exits with code 2."""
    return parse(
        ViewArguments,
        "View a map in the browser (needs viser).",
        argv,
        examples=("gsplatloc view -m my_map", "gsplatloc view -m splat.ply --port 8090"),
    )
