"""Inputs and outputs of rendering, which both backends share."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class RenderOptions:
    """Options of rendering. Defaults: EWA splatting (Zwicker et al. 2001; Kerbl et al. 2023)."""

    background: tuple[float, float, float] = (0.0, 0.0, 0.0)  # rgb in [0, 1]; of the colour image only
    feature_size: tuple[int, int] | None = None  # (height, width) of the feature map; None = render none
    sh_degree: int | None = None  # highest degree to evaluate; None = the map's
    near: float = 0.01  # metres; Gaussians with a smaller depth are skipped
    low_pass: float = 0.3  # pixels^2 added to both variances of a projected Gaussian
    antialiased: bool = False  # reduce opacity as the low-pass filter enlarges Gaussians (Mip-Splatting)
    features_move_geometry: bool = False  # propagate the gradient of features to all parameters and the pose
    sh_in_python: bool = False  # evaluate colours in torch, not in the rasterizer (--convert_SHs_python)
    covariance_in_python: bool = False  # evaluate 3D covariances in torch (--convert_cov3D_python)
    backend: str = "native"  # or "reference", plain PyTorch


@dataclass(frozen=True)
class RenderResult:
    """One rendered view. Colour, depth and alpha have the camera's size, features their own."""

    rgb: Tensor  # [3, H, W]
    depth: Tensor  # [H, W] metres, sum(w z) / sum(w); 0 where alpha is 0
    alpha: Tensor  # [H, W] in [0, 1]
    features: Tensor | None  # [D, h, w], decoded if the map has a decoder, not normalised
    radii: Tensor  # [N] int32 pixels, 0 = not visible


@dataclass(frozen=True)
class Splats:
    """Gaussians as inputs of a rasterizer, with one of two forms of shape and one of two of colour."""

    means: Tensor  # [N, 3] world, metres
    opacities: Tensor  # [N] in [0, 1]
    quaternions: Tensor | None = None  # [N, 4] wxyz, any norm; together with `scales`
    scales: Tensor | None = None  # [N, 3] metres
    covariances: Tensor | None = None  # [N, 6] xx xy xz yy yz zz, metres^2; instead of the two above
    sh: Tensor | None = None  # [N, K, 3]
    colors: Tensor | None = None  # [N, 3] rgb; instead of `sh`
    features: Tensor | None = None  # [N, C]
