"""All options of a mapping run, in the groups that the code is divided into."""

from dataclasses import dataclass, field
from typing import Literal

from gsplatloc.gaussian_renderer import RenderOptions
from gsplatloc.mapping.frames import FrameOptions
from gsplatloc.mapping.initialization import InitializationOptions
from gsplatloc.mapping.landmarks import LandmarkOptions
from gsplatloc.mapping.losses import LossOptions
from gsplatloc.mapping.optimizer import OptimizerOptions
from gsplatloc.mapping.schedule import ScheduleOptions
from gsplatloc.mapping.stopping import StoppingOptions
from gsplatloc.mapping.triangulation import TriangulationOptions
from gsplatloc.scene.densification import DensificationOptions
from gsplatloc.utils.errors import GSplatLocError


@dataclass(frozen=True)
class RenderingOptions:
    """How the map is rendered while it trains."""

    device: str = "auto"  # that trains: auto (a GPU where one can be used), cpu, cuda or cuda:N
    backend: str = "native"  # rasterizer: native, or reference (slow, readable PyTorch)
    antialiased: bool = False  # scale opacity by what the low-pass filter spread (Mip-Splatting)
    convert_SHs_python: bool = False  # evaluate colours in PyTorch instead of in the rasterizer
    convert_cov3D_python: bool = False  # likewise the 3D covariances
    exposure: bool = False  # learn a colour transform of the rendering for every training image
    exposure_model: Literal["affine", "act"] = "affine"  # of it; act: a network over the histogram

    @property
    def exposure_kind(self) -> str | None:
        """Which exposure is learned, if any: asking for the network is asking for exposure."""
        return self.exposure_model if self.exposure or self.exposure_model == "act" else None

    def render_options(self, white_background: bool) -> RenderOptions:
        return RenderOptions(
            background=(1.0, 1.0, 1.0) if white_background else (0.0, 0.0, 0.0),
            antialiased=self.antialiased,
            sh_in_python=self.convert_SHs_python,
            covariance_in_python=self.convert_cov3D_python,
            backend=self.backend,
        )


@dataclass(frozen=True)
class DescriptorOptions:
    """What the Gaussians' descriptors are and where they come from."""

    descriptors: Literal["distilled", "aggregated", "none"] = "distilled"  # by gradient, or in closed form
    descriptor_steps: int = 0  # steps by gradient after aggregation, one training view each
    descriptor_lr_init: float = 0.02  # learning rate of the first of these steps
    descriptor_lr_final: float = 0.001  # and of the last; exponential in between
    speedup: bool = False  # train 16 channels and a 1x1 decoder to 64 instead of 64 channels
    speedup_channels: int = 16  # channels per Gaussian with --speedup
    top_k: int = 2048  # keypoints per training image, for tracks and landmarks
    cache_dir: str | None = None  # folder of extracted features; unset = cache/features in the map's folder

    def descriptor_rates(self) -> list[float]:
        """The learning rate of each step after aggregation."""
        ratio = self.descriptor_lr_final / self.descriptor_lr_init
        last = max(self.descriptor_steps - 1, 1)
        return [self.descriptor_lr_init * ratio ** (step / last) for step in range(self.descriptor_steps)]


@dataclass(frozen=True)
class OutputOptions:
    """What is written when. The last iteration is always evaluated and saved."""

    test_iterations: tuple[int, ...] = (7_000, 30_000)  # iterations at which held-out views are rendered
    save_iterations: tuple[int, ...] = (7_000, 30_000)  # iterations at which the map is written
    checkpoint_iterations: tuple[int, ...] = ()  # iterations at which a checkpoint is written
    start_checkpoint: str | None = None  # checkpoint file to resume from
    quiet: bool = False  # print nothing but errors


@dataclass(frozen=True)
class DebugOptions:
    """Looking for faults."""

    debug: bool = False  # when an iteration fails, write all that it was given to a file
    debug_from: int = -1  # do so from this iteration on; -1 = never, unless --debug
    detect_anomaly: bool = False  # let autograd name the operation that first gave NaN (slow)

    def active(self, iteration: int) -> bool:
        return self.debug or 0 <= self.debug_from <= iteration


@dataclass(frozen=True)
class MappingOptions:
    """Everything that `mapping.train.train` can be told."""

    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)
    stopping: StoppingOptions = field(default_factory=StoppingOptions)
    initialization: InitializationOptions = field(default_factory=InitializationOptions)
    losses: LossOptions = field(default_factory=LossOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    densification: DensificationOptions = field(default_factory=DensificationOptions)
    rendering: RenderingOptions = field(default_factory=RenderingOptions)
    descriptors: DescriptorOptions = field(default_factory=DescriptorOptions)
    triangulation: TriangulationOptions = field(default_factory=TriangulationOptions)
    landmarks: LandmarkOptions = field(default_factory=LandmarkOptions)
    frames: FrameOptions = field(default_factory=FrameOptions)
    output: OutputOptions = field(default_factory=OutputOptions)
    debug: DebugOptions = field(default_factory=DebugOptions)

    def __post_init__(self) -> None:
        if self.stopping.early_stop > 0 and self.schedule.holdout == 0:
            raise GSplatLocError(
                f"expected held-out views for --early_stop {self.stopping.early_stop}, found --holdout 0:"
                " pass --holdout 16, or --early_stop 0"
            )

    def settled_iteration(self) -> int:
        """The last iteration that changes what a map can show: its resolution, harmonics or opacities."""
        schedule, densification = self.schedule, self.densification
        coarse = max(schedule.pyramid, default=0.0) * schedule.iterations
        harmonics = schedule.sh_degree * schedule.sh_interval
        resets = densification.densification == "adc" and densification.opacity_reset_interval > 0
        last_edit = densification.densify_until_iter
        reset = last_edit if resets and densification.opacity_reset_interval < last_edit else 0
        return max(int(coarse), harmonics, reset)
