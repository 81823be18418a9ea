"""The fast backend: rasterization by the native package `gsplatloc_kernels`, if it is installed."""

from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor

from gsplatloc.gaussian_renderer.options import RenderOptions, RenderResult, Splats
from gsplatloc.gaussian_renderer.reference import degree_in_use
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils.errors import GSplatLocError

# The number of the interface that this library calls: see `gsplatloc_kernels.interface`.
INTERFACE = 1
_INSTALL = "install the package gsplatloc-kernels (in a checkout: `make setup`)"
_BOTH = (
    "install both from the same sources (in a checkout: `make setup`, or"
    " `pip install --force-reinstall --no-deps ./submodules/diff-gaussian-rasterization`)"
)


class NotInstalledError(GSplatLocError):
    """The native package is not installed: what it only makes faster goes on without it."""


def rasterize(
    splats: Splats,
    camera: Camera,
    cam_from_world: Tensor,
    options: RenderOptions,
    screen_offsets: Tensor | None = None,
) -> RenderResult:
    """Like `reference.rasterize`, natively; raises `GSplatLocError` without the right package."""
    package = _package()
    height, width = options.feature_size or (camera.height, camera.width)
    settings = package.RasterizerSettings(
        width=camera.width, height=camera.height,
        fx=camera.fx, fy=camera.fy, cx=camera.cx, cy=camera.cy,
        feature_width=width, feature_height=height,
        near=options.near, low_pass=options.low_pass, antialiased=options.antialiased,
        sh_degree=0 if splats.sh is None else degree_in_use(splats.sh, options),
        background=options.background,
        features_move_geometry=options.features_move_geometry,
    )  # fmt: skip
    result = package.rasterize(
        splats.means, splats.quaternions, splats.scales, splats.opacities,
        sh=splats.sh, colors=splats.colors, covariances=splats.covariances,
        features=splats.features if options.feature_size else None,
        cam_from_world=cam_from_world, settings=settings, screen_offsets=screen_offsets,
    )  # fmt: skip
    return RenderResult(result.rgb, result.depth, result.alpha, result.features, result.radii)


def cuda_problem() -> str | None:
    """The reason why the native rasterizer cannot use a GPU; None if it can."""
    try:
        if _has_cuda(_package()):
            return None
    except GSplatLocError as error:
        return str(error)
    return f"the native rasterizer was built without CUDA; {_INSTALL} with GSPLAT_CUDA=ON in the environment"


def package_for(tensor: Tensor) -> ModuleType | None:
    """The native package if it is installed and supports tensors of this dtype and device, otherwise None.

    Raises `GSplatLocError` if its interface is another one.
    """
    try:
        package = _package()
    except NotInstalledError:
        return None
    if tensor.device.type == "cpu":
        return package if tensor.dtype in (torch.float32, torch.float64) else None
    supported = tensor.is_cuda and tensor.dtype == torch.float32 and _has_cuda(package)
    return package if supported else None


def alignment() -> ModuleType | None:
    """The native module of normal equations of image alignment; None if it is not installed.

    Raises `GSplatLocError` if its interface is another one.
    """
    return _part("alignment")


def matching() -> ModuleType | None:
    """The native module of nearest neighbours of descriptors; None if it is not installed.

    Raises `GSplatLocError` if its interface is another one.
    """
    return _part("matching")


def _part(name: str) -> ModuleType | None:
    """A native module; None if it is not installed, `GSplatLocError` if its interface is another one."""
    try:
        _package()
    except NotInstalledError:
        return None
    return import_module(f"gsplatloc_kernels.{name}")


def _package() -> ModuleType:
    """The native package, imported when it is first needed, because the project works without it."""
    try:
        import gsplatloc_kernels
    except ImportError as error:
        if type(error).__name__ == "InterfaceError":  # the class is in the package that was not imported
            raise GSplatLocError(str(error)) from error
        raise NotInstalledError(
            f"expected the native rasterizer, found none ({error}): {_INSTALL}, or use the reference backend"
        ) from error
    found = getattr(gsplatloc_kernels, "INTERFACE", None)
    if found != INTERFACE:
        raise GSplatLocError(
            f"expected the native rasterizer with interface {INTERFACE},"
            f" found {found or 'one without a number'} in {gsplatloc_kernels.__file__}: {_BOTH}"
        )
    return gsplatloc_kernels


def _has_cuda(package: ModuleType) -> bool:
    """Whether the package was built with CUDA; raises `GSplatLocError` if its interface there is another."""
    try:
        return bool(package.has_cuda())
    except ImportError as error:
        raise GSplatLocError(str(error)) from error
