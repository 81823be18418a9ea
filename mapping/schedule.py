"""The schedule of a run: which view, at which resolution, with how many spherical harmonics."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gsplatloc.scene.cameras import Camera
from gsplatloc.utils.errors import GSplatLocError


@dataclass(frozen=True)
class ScheduleOptions:
    """Iterations, resolution and views of a run."""

    iterations: int = 30_000  # one training view each; GSplatLoc's README uses 7,000, its paper 15,000
    sh_degree: int = 3  # 0 to 3: highest degree of the view-dependent colour
    sh_interval: int = 1_000  # iterations between two degrees
    train_pixels: int = 0  # per image; larger images are shrunk to this for training; 0 = no limit
    pyramid: tuple[float, ...] = ()  # fractions of the run at which the resolution doubles, up to full size
    # Every N-th training view is a validation view: Gaussians are not trained on it, and their rendering is
    # compared with it; 0 = none. Landmarks are made of all training views, these included.
    holdout: int = 0
    seed: int = 0  # of the order of views and of all sampling

    def __post_init__(self) -> None:
        if self.iterations < 0:
            raise GSplatLocError(f"expected --iterations of at least 0, found {self.iterations}")
        if not 0 <= self.sh_degree <= 3:
            raise GSplatLocError(f"expected --sh_degree from 0 to 3, found {self.sh_degree}")
        if self.sh_interval < 1:
            raise GSplatLocError(f"expected --sh_interval of at least 1, found {self.sh_interval}")
        if self.holdout == 1 or self.holdout < 0:
            raise GSplatLocError(f"expected --holdout 0 or at least 2, found {self.holdout}")
        if list(self.pyramid) != sorted(self.pyramid) or any(not 0 <= f <= 1 for f in self.pyramid):
            raise GSplatLocError(f"expected ascending fractions for --pyramid, found {list(self.pyramid)}")

    def degree(self, iteration: int) -> int:
        """The spherical-harmonics degree in use at an iteration, the first being 1."""
        return min(self.sh_degree, iteration // self.sh_interval)

    def full_scale(self, camera: Camera, cell: int | None = None) -> float:
        """The size, relative to the view's own, that a view is trained at in the end and evaluated at.

        `cell`: pixels per cell of the feature map, if images of the feature map's size are trained on.
        """
        if cell is not None:
            return 1 / cell
        pixels = camera.width * camera.height
        return (self.train_pixels / pixels) ** 0.5 if 0 < self.train_pixels < pixels else 1.0

    def scale(self, camera: Camera, iteration: int, cell: int | None = None) -> float:
        """The size, relative to the view's own, that a view is trained at in an iteration."""
        passed = sum(iteration > fraction * self.iterations for fraction in self.pyramid)
        return self.full_scale(camera, cell) / (1 << (len(self.pyramid) - passed))


class ViewOrder:
    """Endless passes over the views, each in a new random order; upcoming views can be read in advance."""

    def __init__(self, count: int, seed: int) -> None:
        self._count = count
        self._generator = torch.Generator().manual_seed(seed)
        self._queue: list[int] = []

    def upcoming(self, number: int) -> list[int]:
        """The next views' indices, the very next one first."""
        while len(self._queue) < number:
            self._queue += torch.randperm(self._count, generator=self._generator).tolist()
        return self._queue[:number]

    def advance(self) -> int:
        """Remove the next view's index and return it."""
        self.upcoming(1)
        return self._queue.pop(0)

    def state(self) -> dict[str, Tensor]:
        return {
            "queue": torch.tensor(self._queue, dtype=torch.int64),
            "generator": self._generator.get_state(),
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._queue = state["queue"].tolist()
        self._generator.set_state(state["generator"])
