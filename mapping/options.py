"""All options of making maps, in the groups of the modules that use them.

Nothing that computes is imported: a command line is parsed with this module alone.
"""

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from gsplatloc.localization.features import DEFAULT_EXTRACTOR
from gsplatloc.scene.densification_options import DensificationOptions
from gsplatloc.utils.errors import GSplatLocError

if TYPE_CHECKING:  # for annotations only: a command line is parsed without torch
    from gsplatloc.gaussian_renderer import RenderOptions
    from gsplatloc.scene.cameras import Camera

MAX_LANDMARKS = 50_000
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

    def render_options(self, white_background: bool) -> "RenderOptions":
        from gsplatloc.gaussian_renderer import RenderOptions  # with torch, once a map is made

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

    extractor: str = DEFAULT_EXTRACTOR  # feature extractor: xfeat, disk, or one of a plugin
    descriptors: Literal["distilled", "aggregated", "none"] = "distilled"  # by gradient, or in closed form
    descriptor_steps: int = 0  # gradient steps after aggregation, one training view each
    speedup: bool = False  # train 16 channels and a 1x1 decoder instead of all of the extractor's channels
    top_k: int = 2048  # keypoints per training image, for tracks and landmarks
    max_landmarks: int = MAX_LANDMARKS  # longest tracks kept, of 26 bytes and one per channel in the file
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
class FrameCacheOptions:
    """Where decoded training images are kept."""

    data_device: str = "auto"  # memory that holds decoded images: cpu, cuda, or auto, where training runs
    image_cache_mb: int = 1024  # MB of decoded images, depth and feature maps; others are decoded again


InitKind = Literal["auto", "points", "depth", "tracks", "random"]


@dataclass(frozen=True)
class InitializationOptions:
    """Where the initial Gaussians come from."""

    init: InitKind = "auto"  # auto: depth with sparse points; else more of points and tracks; else random
    init_max_points: int = 100_000  # denser clouds are averaged over voxels until this many are left
    refine_poses: bool | None = None  # by bundle adjustment; unset = those of phones' recordings
    check_poses: bool = True  # stop if images match each other but not at their poses; otherwise warn


@dataclass(frozen=True)
class LossOptions:
    """Weights of the terms of the loss."""

    lambda_dssim: float = 0.2  # weight of 1 - SSIM; L1 has the rest (Kerbl et al. 2023)
    lambda_feature: float = 1.0  # weight of the L1 distance to the extractor's dense maps (GSplatLoc)
    lambda_depth: float = 0.0  # weight of the L1 distance to measured depth, per metre; 0 = off


@dataclass(frozen=True)
class OptimizerOptions:
    """Learning rates of Adam, per iteration. Defaults: Kerbl et al. 2023, GSplatLoc for features."""

    position_lr_init: float = 1.6e-4  # at the first iteration, in units of the scene's extent
    position_lr_final: float = 1.6e-6  # at `position_lr_max_steps`; exponential in between
    position_lr_delay_mult: float = 0.01  # initial factor of the position rate, if there is a delay
    position_lr_delay_steps: int = 0  # iterations in which that factor rises to one; 0 = no delay
    position_lr_max_steps: int = 30_000  # iterations; the rate stays at its final value afterwards
    color_lr: float = 0.0025  # rate of the constant colour; higher harmonics have a twentieth
    opacity_lr: float = 0.05  # rate of the opacity's logit
    scaling_lr: float = 0.005  # of the logarithm of the scales
    rotation_lr: float = 0.001  # of the quaternions
    feature_lr: float = 0.001  # of the descriptors, and of their decoder
    # Step only the Gaussians that an iteration's view shows (Mallick et al., Taming 3DGS, 2024). That saves
    # memory traffic on a GPU, but Gaussians that few views show learn more slowly.
    sparse_adam: bool = False


@dataclass(frozen=True)
class ScheduleOptions:
    """Iterations, resolution and views of a run."""

    iterations: int = 30_000  # one training view each; GSplatLoc's README: 7000, its paper: 15000
    sh_degree: int = 3  # 0 to 3: highest degree of the view-dependent colour
    sh_interval: int = 1_000  # iterations between two degrees
    train_pixels: int = 0  # per image; larger images are shrunk to this for training; 0 = no limit
    pyramid: tuple[float, ...] = ()  # fractions of the run at which the resolution rises, up to full size
    pyramid_step: float = 2.0  # factor by which it rises
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
        if not 1 < self.pyramid_step < math.inf:
            raise GSplatLocError(f"expected --pyramid_step above 1, found {self.pyramid_step}")
        if list(self.pyramid) != sorted(self.pyramid) or any(not 0 <= f <= 1 for f in self.pyramid):
            raise GSplatLocError(f"expected ascending fractions for --pyramid, found {list(self.pyramid)}")

    def degree(self, iteration: int) -> int:
        """The spherical-harmonics degree in use at an iteration, the first being 1."""
        return min(self.sh_degree, iteration // self.sh_interval)

    def full_scale(self, camera: "Camera", cell: int | None = None) -> float:
        """The size, relative to the view's own, that a view is trained at in the end and evaluated at.

        `cell`: pixels per cell of the feature map, if images of the feature map's size are trained on.
        """
        if cell is not None:
            return 1 / cell
        pixels = camera.width * camera.height
        return (self.train_pixels / pixels) ** 0.5 if 0 < self.train_pixels < pixels else 1.0

    def scale(self, camera: "Camera", iteration: int, cell: int | None = None) -> float:
        """The size, relative to the view's own, that a view is trained at in an iteration."""
        passed = sum(iteration > fraction * self.iterations for fraction in self.pyramid)
        return self.full_scale(camera, cell) / self.pyramid_step ** (len(self.pyramid) - passed)


@dataclass(frozen=True)
class StoppingOptions:
    """When a run ends before its last iteration. It is decided on validation views: --holdout is needed."""

    early_stop: int = 0  # evaluations in a row without a gain that end a run; 0 = never
    early_stop_gain: float = 0.1  # dB by which the validation views' mean PSNR must exceed its maximum
    early_stop_interval: int = 250  # iterations between two such evaluations
    early_stop_cooldown: int = 300  # further iterations, in which the position rate falls to its final value

    def __post_init__(self) -> None:
        for name, least in (("early_stop", 0), ("early_stop_interval", 1), ("early_stop_cooldown", 0)):
            value = getattr(self, name)
            if value < least:
                raise GSplatLocError(f"expected --{name} of at least {least}, found {value}")
        if self.early_stop_gain < 0:
            raise GSplatLocError(f"expected --early_stop_gain of at least 0, found {self.early_stop_gain}")


@dataclass(frozen=True)
class PosingOptions:
    """How images are posed."""

    camera_model: str = "SIMPLE_RADIAL"  # COLMAP's name; OPENCV for wide angles, OPENCV_FISHEYE for fisheye
    quiet: bool = False  # print nothing but errors


@dataclass(frozen=True)
class FromSplatOptions:
    """How a splat is mapped."""

    views: int = 160  # about how many renderings: at the given cameras first, then between and beside them
    extractor: str = DescriptorOptions.extractor  # feature extractor: xfeat, disk, or one of a plugin
    top_k: int = DescriptorOptions.top_k  # keypoints per rendering
    device: str = "auto"  # auto (a GPU where one can be used), cpu, cuda or cuda:N
    quiet: bool = False  # print nothing but errors

    def __post_init__(self) -> None:
        if self.views < 1:
            raise GSplatLocError(f"expected at least one rendering, found --views {self.views}: correct it")


@dataclass(frozen=True)
class VirtualCameraOptions:
    """The virtual cameras of a splat without any."""

    fov: float = 65.0  # degrees, horizontal field of view
    width: int = 640  # pixels of an image, best that of the photos to be localized: larger ones are shrunk
    up: tuple[float, float, float] | None = None  # up direction in the map; unset = estimated

    def __post_init__(self) -> None:
        if not 10 <= self.fov <= 150:
            raise GSplatLocError(f"expected --fov of 10 to 150 degrees, found {self.fov}: correct it")
        if not 80 <= self.width <= 4096:
            raise GSplatLocError(f"expected --width of 80 to 4096 pixels, found {self.width}: correct it")
        if self.up is not None and not 0 < math.hypot(*self.up) < math.inf:
            raise GSplatLocError(f"expected --up other than zero, found {self.up}: correct it")


@dataclass(frozen=True)
class MatcherTrainingOptions:
    """How the network that describes splats is trained (--initial gsvisloc)."""

    steps: int = 4_000  # training steps, each on examples of one place
    batch: int = 256  # examples per step
    rate: float = 2e-3  # first learning rate of AdamW; it falls by half a cosine
    images: int = 110  # images of each place at most
    per_image: int = 300  # examples of each image at most
    report: int = 250  # steps between two points of the learning curve
    snapshots: bool = False  # write the weights at each of these, too: OUTPUT with the step in its name
    seed: int = 0  # of the initial weights, the examples and their order
    extractor: str = DEFAULT_EXTRACTOR  # feature extractor whose descriptors are predicted
    device: str = "auto"  # auto (a GPU where one can be used), cpu, cuda or cuda:N
    quiet: bool = False  # print nothing but errors

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "images", "per_image", "report"):
            if getattr(self, name) < 1:
                raise GSplatLocError(f"expected --{name} of at least 1, found {getattr(self, name)}")


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


CHECKPOINTS = 6  # per training run, from which a run that was stopped goes on


def with_checkpoints(options: MappingOptions, iterations: int | None, quiet: bool) -> MappingOptions:
    """The options with this number of training steps (None: their own) and with checkpoints."""
    steps = options.schedule.iterations if iterations is None else iterations
    checkpoints = tuple(steps * part // CHECKPOINTS for part in range(1, CHECKPOINTS))
    return replace(
        options,
        schedule=replace(options.schedule, iterations=steps),
        output=replace(options.output, checkpoint_iterations=checkpoints, quiet=quiet),
    )
