"""All options of a mapping run, in the groups of the modules that use them."""

from dataclasses import dataclass, field
from typing import Literal

from gsplatloc.gaussian_renderer import RenderOptions
from gsplatloc.localization.features import DEFAULT_EXTRACTOR
from gsplatloc.mapping.frames import FrameCacheOptions
from gsplatloc.mapping.initialization import InitializationOptions
from gsplatloc.mapping.landmarks import MAX_LANDMARKS
from gsplatloc.mapping.losses import LossOptions
from gsplatloc.mapping.optimizer import OptimizerOptions
from gsplatloc.mapping.schedule import ScheduleOptions
from gsplatloc.mapping.stopping import StoppingOptions
from gsplatloc.scene.densification import DensificationOptions
from gsplatloc.utils.errors import GSplatLocError

SPEEDUP_CHANNELS = 16  # per Gaussian with --speedup
_FIRST_RATE, _LAST_RATE = 0.02, 0.001  # learning rates of the descriptor steps, exponential in between


@dataclass(frozen=True)
class RenderingOptions:
    """How the map is rendered while it trains."""

    device: str = "auto"  # of training: auto (a GPU where one can be used), cpu, cuda or cuda:N
    backend: str = "native"  # rasterizer: native, or reference (slow, readable PyTorch)
    antialiased: bool = False  # compensate opacity for the low-pass filter (Mip-Splatting)
    convert_SHs_python: bool = False  # evaluate colours in PyTorch, not in the rasterizer
    convert_cov3D_python: bool = False  # evaluate 3D covariances in PyTorch, not in the rasterizer
    exposure: bool = False  # learn the exposure of every training image
    exposure_model: Literal["affine", "act"] = "affine"  # 12 parameters per image, or a network (act)

    @property
    def exposure_kind(self) -> str | None:
        """The exposure model that is learned, None if none; "act" implies `exposure`."""
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
    """The descriptors of the map: by which extractor, of Gaussians and of landmarks."""

    extractor: str = DEFAULT_EXTRACTOR  # feature extractor, a name in `EXTRACTORS`
    descriptors: Literal["distilled", "aggregated", "none"] = "distilled"  # by gradient, or in closed form
    descriptor_steps: int = 0  # gradient steps after aggregation, one training view each
    speedup: bool = False  # train 16 channels and a 1x1 decoder instead of all of the extractor's channels
    top_k: int = 2048  # keypoints per training image, for tracks and landmarks
    max_landmarks: int = MAX_LANDMARKS  # longest tracks kept, of 24 bytes and one per channel in the file
    cache_dir: str | None = None  # folder of features on disk; unset = cache/features in the map's folder

    def descriptor_rates(self) -> list[float]:
        """The learning rate of each step after aggregation."""
        ratio, last = _LAST_RATE / _FIRST_RATE, max(self.descriptor_steps - 1, 1)
        return [_FIRST_RATE * ratio ** (step / last) for step in range(self.descriptor_steps)]


@dataclass(frozen=True)
class OutputOptions:
    """When files are written. The last iteration is always evaluated and saved."""

    test_iterations: tuple[int, ...] = (7_000, 30_000)  # iterations at which validation views are rendered
    save_iterations: tuple[int, ...] = (7_000, 30_000)  # iterations at which the map is written
    checkpoint_iterations: tuple[int, ...] = ()  # iterations at which a checkpoint is written
    start_checkpoint: str | None = None  # checkpoint file to resume from
    quiet: bool = False  # print nothing but errors


@dataclass(frozen=True)
class DebugOptions:
    """Debugging."""

    debug: bool = False  # when an iteration fails, write its inputs to a file
    debug_from: int = -1  # --debug from this iteration on; -1 = never
    detect_anomaly: bool = False  # let autograd name the first operation that gave NaN (slow)

    def active(self, iteration: int) -> bool:
        return self.debug or 0 <= self.debug_from <= iteration


@dataclass(frozen=True)
class MappingOptions:
    """All options of `mapping.train.train`."""

    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)
    stopping: StoppingOptions = field(default_factory=StoppingOptions)
    initialization: InitializationOptions = field(default_factory=InitializationOptions)
    losses: LossOptions = field(default_factory=LossOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    densification: DensificationOptions = field(default_factory=DensificationOptions)
    rendering: RenderingOptions = field(default_factory=RenderingOptions)
    descriptors: DescriptorOptions = field(default_factory=DescriptorOptions)
    frames: FrameCacheOptions = field(default_factory=FrameCacheOptions)
    output: OutputOptions = field(default_factory=OutputOptions)
    debug: DebugOptions = field(default_factory=DebugOptions)
    feature_sized: bool = False  # train on images of the feature map's size (--resolution 0)

    def __post_init__(self) -> None:
        if self.stopping.early_stop > 0 and self.schedule.holdout == 0:
            raise GSplatLocError(
                f"expected validation views for --early_stop {self.stopping.early_stop}, found --holdout 0:"
                " pass --holdout 16, or --early_stop 0"
            )

    def settled_iteration(self) -> int:
        """The last iteration that changes the resolution, adds harmonics or resets opacities."""
        schedule, densification = self.schedule, self.densification
        coarse = max(schedule.pyramid, default=0.0) * schedule.iterations
        harmonics = schedule.sh_degree * schedule.sh_interval
        resets = densification.densification == "adc" and densification.opacity_reset_interval > 0
        last_edit = densification.densify_until_iter
        reset = last_edit if resets and densification.opacity_reset_interval < last_edit else 0
        return max(int(coarse), harmonics, reset)
