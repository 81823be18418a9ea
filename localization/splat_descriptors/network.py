"""The network that turns what is around a Gaussian into a descriptor of XFeat's space, and its file."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsplatloc.localization.splat_descriptors.neighbourhood import CHANNELS, Grid
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.tensors import stored_tensors, write_tensors

WEIGHTS = Path(__file__).parent / "weights.safetensors"  # those that come with the package
GRIDS = (Grid(cell_px=3.0), Grid(cell_px=9.0, neighbours=192))
DIMENSIONS = 64
_WIDTHS = (16, 32, 48, 64)
_HIDDEN = 256
_DEPTH_UNIT = 0.05  # relative depth that becomes 1
_FORMAT = "gsplatloc-splat-encoder-1"
_FLAT = 0.02  # grey: contrast below it is not amplified


class SplatEncoder(nn.Module):
    """[A, grids, 3, side, side] of `neighbourhood.draw_all` -> descriptors [A, 64] and scores [A].

    One convolutional tower per grid; a linear layer joins them. The grey of a grid is normalised to zero mean
    and unit contrast, as XFeat normalises an image, so that exposure does not matter.
    """

    def __init__(self) -> None:
        super().__init__()
        self.towers = nn.ModuleList(_tower() for _ in GRIDS)
        cells = (GRIDS[0].side // 4) ** 2
        self.join = nn.Sequential(
            nn.Linear(len(GRIDS) * _WIDTHS[-1] * cells, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, DIMENSIONS + 1),
        )

    def forward(self, drawn: Tensor) -> tuple[Tensor, Tensor]:
        drawn = normalised(drawn)
        parts = [tower(drawn[:, number]).flatten(1) for number, tower in enumerate(self.towers)]
        joined = self.join(torch.cat(parts, 1))
        return F.normalize(joined[:, :DIMENSIONS], dim=1), joined[:, DIMENSIONS]


def normalised(drawn: Tensor) -> Tensor:
    """Grey relative to its mean where there is something, in units of its contrast; scaled depth."""
    grey, alpha, depth = drawn.unbind(2)
    total = alpha.sum((2, 3), keepdim=True).clamp(min=1)
    mean = grey.sum((2, 3), keepdim=True) / total
    centred = grey - alpha * mean
    contrast = (centred.square().sum((2, 3), keepdim=True) / total).sqrt()
    depth = (depth / _DEPTH_UNIT).clamp(-2, 2)
    return torch.stack([centred / (contrast + _FLAT), alpha, depth], 2)


def _tower() -> nn.Sequential:
    layers: list[nn.Module] = []
    before = CHANNELS
    for width, stride in zip(_WIDTHS, (1, 2, 1, 2)):
        layers += [nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        before = width
    return nn.Sequential(*layers)


def save_encoder(encoder: SplatEncoder, path: Path | str, record: Mapping[str, str]) -> None:
    """Write the weights as safetensors in half precision, atomically, with a record of how they were made."""
    tensors = {
        name: value.half() if value.is_floating_point() else value
        for name, value in encoder.state_dict().items()
    }
    write_tensors(path, tensors, {**record, "format": _FORMAT})


def load_encoder(path: Path | str, extractor: str) -> SplatEncoder:
    """The network in a file of `save_encoder`, for descriptors of the version `extractor`.

    Raises `GSplatLocError` if there is no such file, if it holds something else, or another extractor's.
    """
    encoder, made_for = SplatEncoder(), ""
    with stored_tensors(path, "weights", "run gsplatloc train-matcher", _FORMAT) as (tensors, metadata):
        encoder.load_state_dict({name: value.to(_like(encoder, name)) for name, value in tensors.items()})
        made_for = metadata["extractor"]
    if made_for != extractor:
        raise GSplatLocError(
            f"expected weights for {extractor} in {path}, found those for {made_for}: run gsplatloc"
            " train-matcher with the extractor of this map"
        )
    return encoder.eval().requires_grad_(False)


def _like(encoder: SplatEncoder, name: str) -> torch.dtype:
    found = encoder.state_dict().get(name)
    return torch.float32 if found is None else found.dtype


def weights_key(path: Path) -> str:
    """A hash of the file of weights."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
