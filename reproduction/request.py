"""A request: a table, its scenes and methods, and how much of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gsplatloc.datasets.command import SetupOptions
from gsplatloc.mapping.options import MappingOptions
from gsplatloc.reproduction.methods import MethodName
from gsplatloc.reproduction.tables import Table
from gsplatloc.scene import SceneOptions


@dataclass(frozen=True)
class Request:
    """A table to be made."""

    name: str  # of the table
    table: Table
    scenes: tuple[str, ...]
    methods: tuple[MethodName, ...]
    setup: SetupOptions  # where data is, and how it is downloaded
    output: Path  # folder of maps, results and the page
    mapping: Callable[[MethodName], MappingOptions]  # the options of a method's maps
    every: int = 1  # of the test images, one in so many is localized
    resolution: int | None = None  # of images, as `SceneOptions` has it
    poses: Path | None = None  # folder of pose files of other estimators
    quiet: bool = False

    @property
    def scene_options(self) -> SceneOptions:
        return SceneOptions(resolution=self.resolution)

    def folder(self, scene: str, method: MethodName) -> Path:
        """Where a scene's map and results by one method are."""
        return self.output / scene / method


@dataclass(frozen=True)
class Step:
    """A scene by one method."""

    scene: str
    method: MethodName
    source: Path  # folder of the scene
    key: str  # `scene_run.identity`

    def __str__(self) -> str:
        return f"{self.scene}, {self.method}"
