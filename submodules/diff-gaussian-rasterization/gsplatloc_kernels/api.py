"""The public function, its settings and its result."""

from dataclasses import dataclass
from operator import index

import torch
from torch import Tensor

from gsplatloc_kernels import backends, checks
from gsplatloc_kernels.function import RasterizeFunction


@dataclass(frozen=True)
class RasterizerSettings:
    """The camera and how to splat. Defaults: Kerbl et al., "3D Gaussian Splatting" (2023)."""

    width: int  # pixels
    height: int  # pixels
    fx: float  # pixels
    fy: float  # pixels
    cx: float  # pixels, from the image corner
    cy: float  # pixels, from the image corner
    feature_width: int | None = None  # pixels of the feature map, None = width
    feature_height: int | None = None  # pixels of the feature map, None = height
    near: float = 0.01  # metres; Gaussians whose centre is closer are skipped
    low_pass: float = 0.3  # pixels^2 added to both variances of a projected Gaussian
    antialiased: bool = False  # compensate opacity for the low-pass filter (Mip-Splatting)
    sh_degree: int = 0  # degree in use, 0 to 3; not used with colors
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)  # of rgb, in [0, 1]; the other outputs have none
    features_move_geometry: bool = False  # let the feature gradient reach shapes, opacities and the pose
    threads: int | None = None  # None = torch.get_num_threads(); the result does not depend on it
    # Most tile intersections of an image: a Gaussian has one in each tile that it touches. In float32 each
    # takes 6 bytes in forward without gradients and 10 with them (on a GPU 24 and what sorting takes), 64
    # more in backward, and 4 per channel.
    # A CPU counts what it lists: from 500,000 visible Gaussians on, the hidden ones are left out, and the
    # limit is that of the near and of the far ones each.
    max_intersections: int = 1 << 26
    # Take memory for as many tile intersections of the image and of the feature map each, instead of waiting
    # for their numbers: a pass can then be captured in a CUDA graph. Call `Rasterization.check` once its work
    # is done. A CPU takes what it needs. None = count first.
    intersection_capacity: int | None = None
    # Of feature products on a GPU: "float32" takes three tf32 products (2^-20), "tf32" one (2^-11). A CPU
    # always computes in full.
    feature_precision: str = "float32"


@dataclass(frozen=True)
class Rasterization:
    """One rendered view."""

    rgb: Tensor  # [3, H, W]
    features: Tensor | None  # [C, h, w]
    depth: Tensor  # [H, W] metres, sum(w z) / sum(w); 0 where alpha is 0
    alpha: Tensor  # [H, W] in [0, 1]
    radii: Tensor  # [N] int32 pixels, 0 = not visible in the image
    # With `intersection_capacity`, on a GPU: int64, Gaussians visible, intersections of the image and of the
    # feature map, and what was not finite; for `check`.
    counts: Tensor | None = None
    capacity: int | None = None  # that the pass had

    def check(self) -> None:
        """Raise what `rasterize` could not raise with an `intersection_capacity`, once the work is done.

        Such a pass has rendered the background alone. Reads `counts`: the host waits. MemoryError for more
        intersections than the capacity, ValueError for NaN or infinite parameters.
        """
        if self.counts is not None and self.capacity is not None:
            backends.backend_for(self.counts.device).check_capacity(self.counts, self.capacity)


def rasterize(
    means: Tensor,
    quaternions: Tensor | None,
    scales: Tensor | None,
    opacities: Tensor,
    *,
    sh: Tensor | None = None,
    colors: Tensor | None = None,
    covariances: Tensor | None = None,
    features: Tensor | None = None,
    cam_from_world: Tensor,
    settings: RasterizerSettings,
    screen_offsets: Tensor | None = None,
) -> Rasterization:
    """Render Gaussians; differentiable in every tensor.

    means [N, 3] world; quaternions [N, 4] wxyz of any norm and scales [N, 3], or covariances [N, 6] (xx xy
    xz yy yz zz); opacities [N] in [0, 1]; sh [N, K, 3] with K >= (sh_degree + 1)^2, or colors [N, 3];
    features [N, C]; cam_from_world [4, 4], whose gradient is that of its twelve upper numbers; screen_offsets
    [N, 2] are added to the projected means, in pixels. All float32 on one GPU, which renders them on torch's
    current stream, or all float32 or float64 on the CPU.

    Raises TypeError and ValueError for arguments that do not fit, ValueError for NaN or infinite parameters
    (colours and features: of visible Gaussians), MemoryError for more tile intersections than
    `settings.max_intersections`, ImportError for tensors on a GPU where the package was built without CUDA,
    and RuntimeError where CUDA fails.
    """
    inputs = {
        "means": means,
        "quaternions": quaternions,
        "scales": scales,
        "covariances": covariances,
        "opacities": opacities,
        "sh": sh,
        "colors": colors,
        "features": features,
        "cam_from_world": cam_from_world,
        "screen_offsets": screen_offsets,
    }
    checks.check_settings(settings)
    checks.check_inputs(inputs, settings.sh_degree)
    backend = backends.backend_for(means.device)
    if backend.checks_values:
        checks.check_values(inputs)
    native = _native_settings(settings, inputs)
    if features is not None and features.shape[1] == 0:
        inputs["features"] = None
    rgb, rendered, depth, alpha, radii, counts = RasterizeFunction.apply(backend, native, *inputs.values())
    if features is not None and rendered is None:
        rendered = rgb.new_zeros(0, native["feature_height"], native["feature_width"])
    capacity = None if counts is None else settings.intersection_capacity
    return Rasterization(rgb, rendered, depth, alpha, radii, counts, capacity)


def _native_settings(settings: RasterizerSettings, inputs: dict[str, Tensor | None]) -> dict[str, object]:
    """The settings as the extension reads them."""
    sh, features, means = inputs["sh"], inputs["features"], inputs["means"]
    assert means is not None
    capacity = settings.intersection_capacity
    return {
        **vars(settings),
        "width": index(settings.width),
        "height": index(settings.height),
        "feature_width": index(settings.feature_width or settings.width),
        "feature_height": index(settings.feature_height or settings.height),
        "background": tuple(float(value) for value in settings.background),
        "sh_degree": index(settings.sh_degree) if sh is not None else 0,
        "sh_bases": sh.shape[1] if sh is not None else 0,
        "channels": features.shape[1] if features is not None else 0,
        "count": means.shape[0],
        "differentiable": torch.is_grad_enabled()
        and any(tensor is not None and tensor.requires_grad for tensor in inputs.values()),
        "threads": checks.thread_count(settings.threads),
        "max_intersections": index(settings.max_intersections),
        "intersection_capacity": capacity if capacity is None else index(capacity),
        "full_precision": settings.feature_precision == "float32",
    }
