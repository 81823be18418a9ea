"""The map itself: 3D Gaussians with colours and descriptors, as tensors of unconstrained parameters."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass
class Gaussians:
    """N Gaussians. The stored parameters are unconstrained; properties convert them for the renderer.

    `feature_decoder` is set if the map was trained with low-dimensional features (`--speedup`): a 1x1
    convolution [D, C] that converts rendered features of C channels to descriptors of D channels.
    """

    means: Tensor  # [N, 3] world, metres
    quaternions: Tensor  # [N, 4] wxyz, any non-zero norm: world_from_gaussian
    log_scales: Tensor  # [N, 3] log of the standard deviations in metres
    opacity_logits: Tensor  # [N]
    sh: Tensor  # [N, K, 3] spherical harmonics, K = (degree + 1)^2, rgb = 0.5 + sum Y_k sh_k
    features: Tensor  # [N, C] descriptors, not normalised; C = 0 if there are none
    feature_decoder: Tensor | None = None  # [D, C]
    antialiased: bool = False  # trained so: always rendered with `RenderOptions.antialiased`

    def __len__(self) -> int:
        return self.means.shape[0]

    @property
    def scales(self) -> Tensor:
        """Standard deviations [N, 3] in metres."""
        return self.log_scales.exp()

    @property
    def opacities(self) -> Tensor:
        """Opacities [N] in (0, 1)."""
        return self.opacity_logits.sigmoid()

    @property
    def sh_degree(self) -> int:
        """The degree of the stored coefficients."""
        return round(self.sh.shape[1] ** 0.5) - 1

    @property
    def device(self) -> torch.device:
        return self.means.device

    def parameters(self) -> dict[str, Tensor]:
        """Every tensor by its name, including the decoder if there is one."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in named.items() if isinstance(value, Tensor)}

    def per_gaussian(self) -> dict[str, Tensor]:
        """The tensors whose first axis is the Gaussian, by name."""
        return {name: tensor for name, tensor in self.parameters().items() if name != "feature_decoder"}

    def select(self, index: Tensor) -> "Gaussians":
        """The Gaussians at `index` (indices or a mask), in a new object."""
        return self._with({name: tensor[index] for name, tensor in self.per_gaussian().items()})

    def to(self, device: torch.device | str) -> "Gaussians":
        return self._with({name: tensor.to(device) for name, tensor in self.parameters().items()})

    def detach(self) -> "Gaussians":
        return self._with({name: tensor.detach() for name, tensor in self.parameters().items()})

    def _with(self, tensors: Mapping[str, Any]) -> "Gaussians":
        return replace(self, **tensors)
