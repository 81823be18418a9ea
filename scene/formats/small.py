"""`.small`: a quantised splat, in which `gsplatloc export --map` stores a small map."""

from pathlib import Path

import safetensors
import torch
from torch import Tensor

from gsplatloc.scene.formats import broken
from gsplatloc.scene.formats.values import BYTE_MARGIN, capped
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils.errors import decoding
from gsplatloc.utils.tensors import opened, write_tensors

_FORMAT = "gsplatloc-small-1"
_FLAT = 16.0  # smallest log scale, below the largest of the file: e^-16 of a length is flat
_OUTLIERS = 0.001  # share of the higher coefficients that is clamped at either end
_SAMPLE = 1_000_000  # values from which that share is measured
_BITS = {"means": 24, "log_scales": 8, "quaternions": 8, "opacities": 8, "base": 16, "rest": 8}


class Small:
    """Every column has an even step between its least and its greatest value."""

    suffix = ".small"
    changes = "positions have 24 bits, colours of degree 0 have 16, all else has 8"

    def matches(self, path: Path, head: bytes) -> bool:
        return path.name.lower().endswith(self.suffix)

    def read(self, path: Path) -> Gaussians:
        with decoding("a small splat", path, "export it anew"):
            with opened(path) as file:
                if (file.metadata() or {}).get("format") != _FORMAT:
                    raise broken(path, "another kind of safetensors file")
                columns = {name: _decoded(file, name, bits) for name, bits in _BITS.items()}
            rows = len(columns["means"])
            opacities = columns["opacities"].flatten().clamp(BYTE_MARGIN, 1 - BYTE_MARGIN)
            sh = torch.cat([columns["base"], columns["rest"]], 1).reshape(rows, -1, 3)
            means, scales = columns["means"].reshape(-1, 3), columns["log_scales"].reshape(rows, 3)
            quaternions = columns["quaternions"].reshape(rows, 4)
            return Gaussians(means, quaternions, scales, opacities.logit(), sh, torch.zeros(rows, 0))

    def write(self, path: Path, gaussians: Gaussians) -> None:
        gaussians = capped(gaussians)
        scales, rest = gaussians.log_scales, gaussians.sh[:, 1:].flatten(1)
        columns = {
            "means": gaussians.means,
            "log_scales": scales.clamp(min=scales.max() - _FLAT),
            "quaternions": torch.nn.functional.normalize(gaussians.quaternions, dim=1),
            "opacities": gaussians.opacities[:, None],
            "base": gaussians.sh[:, 0],
            "rest": _without_outliers(rest),
        }
        tensors: dict[str, Tensor] = {}
        for name, values in columns.items():
            tensors |= _encoded(name, values.double(), _BITS[name])
        write_tensors(path, tensors, {"format": _FORMAT})


def _without_outliers(values: Tensor) -> Tensor:
    if not values.numel():
        return values
    sample = values.flatten()[:: -(-values.numel() // _SAMPLE)]
    return values.clamp(sample.quantile(_OUTLIERS), sample.quantile(1 - _OUTLIERS))


def _encoded(name: str, values: Tensor, bits: int) -> dict[str, Tensor]:
    """Levels of `values` [N, C] as `bits` / 8 bytes each, low byte first, and the range of each column."""
    low = values.amin(0) if len(values) else values.new_zeros(values.shape[1])
    high = values.amax(0) if len(values) else low
    levels = ((values - low) / (high - low).clamp(min=1e-30) * (2**bits - 1)).round().long()
    parts = [((levels >> shift) & 255).to(torch.uint8) for shift in range(0, bits, 8)]
    return {name: torch.stack(parts), f"{name}_range": torch.stack([low, high])}


def _decoded(file: safetensors.safe_open, name: str, bits: int) -> Tensor:
    """The values [N, C] of `_encoded`; ValueError where the file holds other shapes."""
    parts, (low, high) = file.get_tensor(name).long(), file.get_tensor(f"{name}_range")
    if parts.ndim != 3 or len(parts) != bits // 8 or low.shape != parts.shape[2:]:
        raise ValueError(f"{name} of shape {tuple(parts.shape)}")
    levels = sum(part << (8 * place) for place, part in enumerate(parts))
    return (low + (high - low) * (levels / (2**bits - 1))).float()
