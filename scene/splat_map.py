"""A map whose parts are read from its folder when they are first needed."""

from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch

from gsplatloc.scene.cameras import PosedCamera
from gsplatloc.scene.export import find_ply, map_files, with_descriptors
from gsplatloc.scene.formats import read_splat
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.map_config import CAMERAS_NAME, map_antialiased, map_frame, read_cameras
from gsplatloc.scene.map_frame import MapFrame
from gsplatloc.utils.errors import GSplatLocError


class SplatMap:
    """The Gaussians of a map with and without descriptors, and its mapping views.

    Each stage asks for the part that it needs; parts that no stage asks for are not read.
    """

    def __init__(
        self,
        folder: Path | str | None = None,
        iteration: int | None = None,
        device: torch.device | str = "cpu",
        gaussians: Gaussians | None = None,
    ):
        """The map in `folder` (`iteration`: the latest by default), or the given `gaussians` in memory."""
        self.folder = None if folder is None else Path(folder)
        self.device = torch.device(device)
        self._iteration = iteration
        self._files: set[Path] = set()
        if gaussians is not None:
            self.gaussians = self.described = gaussians  # in place of the cached properties

    @cached_property
    def gaussians(self) -> Gaussians:
        """The Gaussians; a map read from a folder leaves their descriptors out (zero channels).

        Raises `GSplatLocError` if the map has no Gaussians.
        """
        found = read_splat(self._ply).to(self.device)
        return replace(found, antialiased=self.folder is not None and map_antialiased(self.folder))

    @cached_property
    def described(self) -> Gaussians:
        """The Gaussians with their descriptors (zero channels if the map has none)."""
        return with_descriptors(self.gaussians, self._ply)

    @cached_property
    def frame(self) -> MapFrame:
        """The coordinates of Gaussians, views and landmarks; a map in memory has those of its scene."""
        return map_frame(self.folder)

    @cached_property
    def views(self) -> list[PosedCamera]:
        """The mapping views, in the map's coordinates."""
        if self.folder is None:
            return []
        self.file(CAMERAS_NAME)
        return read_cameras(self.folder)

    def file(self, name: str) -> Path:
        """The path of a file in the map's folder, counted by `bytes_read`. Raises for a map in memory."""
        if self.folder is None:
            raise GSplatLocError(f"expected a map's folder with {name}, found a map in memory")
        self._files.add(self.folder / name)
        return self.folder / name

    def bytes_read(self) -> int:
        """Size of the files of the map that were read so far."""
        files = set(self._files)
        if "_ply" in self.__dict__:
            files |= set(map_files(self._ply, descriptors="described" in self.__dict__))
        return sum(path.stat().st_size for path in files if path.is_file())

    def bytes_in_memory(self) -> int:
        """Size of the Gaussians, if they were read."""
        loaded = [self.__dict__[name] for name in ("gaussians", "described") if name in self.__dict__]
        tensors = {id(t): t for gaussians in loaded for t in gaussians.per_gaussian().values()}
        return sum(tensor.nbytes for tensor in tensors.values())

    def has_descriptors(self) -> bool:
        """Whether the map's folder holds descriptors of its Gaussians."""
        return len(map_files(self._ply, descriptors=True)) > 1

    def has_views(self) -> bool:
        """Whether the map's folder lists its mapping views."""
        return self.folder is not None and (self.folder / CAMERAS_NAME).is_file()

    @cached_property
    def _ply(self) -> Path:
        if self.folder is None:
            raise GSplatLocError(
                "expected Gaussians for the refinements, found a map without any: run only the initial stage"
            )
        return find_ply(self.folder, self._iteration)
