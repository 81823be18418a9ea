"""gsplat, the rasterizer that ours is compared with on a GPU, with the arguments of ours. Optional."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from gsplatloc.scene.cameras import Camera

VERSION = "1.5.3"


def main() -> None:
    """Compile gsplat's kernels; prints the reason where that is not possible."""
    print(problem() or "gsplat is ready")


@cache
def problem() -> str | None:
    """Why there is no peer; None where there is one. The first import compiles its kernels for minutes."""
    if not torch.cuda.is_available():
        return "gsplat needs a GPU"
    try:
        import gsplat
        from gsplat.cuda._backend import _C
    except (ImportError, RuntimeError, OSError) as error:
        return f"gsplat cannot be used ({str(error).splitlines()[0]}): pip install gsplat=={VERSION}"
    if gsplat.__version__ != VERSION:
        return f"expected gsplat {VERSION}, found {gsplat.__version__}: pip install gsplat=={VERSION}"
    return None if _C is not None else "gsplat has no compiled kernels: it needs nvcc to build them"


def render(
    inputs: dict[str, Tensor],
    camera: Camera,
    outputs: tuple[str, ...],
    feature_scale: int | None,
    packed: bool,
) -> list[Tensor]:
    """The images that `outputs` name, [H, W, C] each, in as few passes as gsplat allows.

    Features of the image's size are channels of the same pass; it blends 32 of them at a time. Features at
    a fraction of the size are a pass of their own.
    """
    small = feature_scale not in (None, 1)
    same_pass = feature_scale == 1 and "features" in outputs
    values = torch.cat([inputs["colors"], inputs["features"]], 1) if same_pass else inputs["colors"]
    mode = "RGB+D" if "depth" in outputs else "RGB"
    images = [_pass(inputs, values, camera, mode, packed)]
    if small and "features" in outputs:
        size = camera.width // feature_scale, camera.height // feature_scale  # type: ignore[operator]
        images.append(_pass(inputs, inputs["features"], camera.resized(*size), "RGB", packed))
    return images


def _pass(inputs: dict[str, Tensor], values: Tensor, camera: Camera, mode: str, packed: bool) -> Tensor:
    from gsplat import rasterization

    calibration = camera.matrix(torch.float32).to(values.device)
    image: Any = rasterization(
        inputs["means"], inputs["quaternions"], inputs["scales"], inputs["opacities"], values,
        inputs["cam_from_world"][None], calibration[None], camera.width, camera.height,
        near_plane=0.01, render_mode=mode, packed=packed,
    )[0]  # fmt: skip
    return image[0]
