"""A map's parts, each read from its folder when it is first needed."""

from functools import cached_property
from pathlib import Path

import torch

from gsplatloc.scene.cameras import PosedCamera
from gsplatloc.scene.export import load_gaussians, ply_path, saved_iterations
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.map_config import read_cameras
from gsplatloc.utils.errors import GSplatLocError


class SplatMap:
    """The Gaussians of a map with and without descriptors, and its mapping views.

    Stages ask for what they need, so that a map is read only as far as they do.
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
        if gaussians is not None:
            self.described = gaussians  # in place of the cached property
            self.gaussians = gaussians

    @cached_property
    def described(self) -> Gaussians:
        """The Gaussians with their descriptors; raises `GSplatLocError` where the folder has none."""
        if self.folder is None:
            raise GSplatLocError(
                "expected Gaussians for the refinements, found a map without any: run only the initial stage"
            )
        return load_gaussians(self.folder, self._iteration).to(self.device)

    @cached_property
    def gaussians(self) -> Gaussians:
        """The Gaussians; descriptors may be left out."""
        return self.described

    @cached_property
    def views(self) -> list[PosedCamera]:
        """The mapping views."""
        if self.folder is None:
            return []
        return read_cameras(self.folder)

    def bytes_read(self) -> int:
        """Size of the files that were read for the Gaussians so far."""
        if self.folder is None or "described" not in self.__dict__:
            return 0
        iteration = self._iteration or saved_iterations(self.folder)[-1]
        folder = ply_path(self.folder, iteration).parent
        return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
