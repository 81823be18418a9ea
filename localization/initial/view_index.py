"""An index of views of the map, from which the most similar to a query are retrieved.

The index is made of the map alone: it is rendered where the mapping images were taken and, as GSLoc (Botashev
et al. 2024) proposes, from virtual views in between. No training image is read. Every rendering is described
by its pooled dense descriptors. Local descriptors average to nearly the same vector everywhere, so the
differences between a view's descriptors and the words of a small vocabulary of this map are pooled: VLAD
(Jegou et al. 2010), each word normalised separately (Arandjelovic & Zisserman 2013).
"""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.localization.alignment.rendered_view import to_image
from gsplatloc.localization.features import Extractor
from gsplatloc.localization.initial.virtual_views import virtual_views
from gsplatloc.scene.cameras import PosedCamera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.tensors import stored_tensors, write_tensors

FILE_NAME = "views.safetensors"
_FORMAT = "gsplatloc-views-1"
_PER_VIEW = 256  # descriptors of each view that the vocabulary is made of
_ROUNDS = 15  # of k-means
_SEED = 0  # of virtual views and vocabulary


@dataclass(frozen=True)
class ViewIndexOptions:
    """The views of an index, and how they are described."""

    virtual_views: int = 0  # rendered virtual views in addition to the mapping views
    words: int = 32  # of the vocabulary


@dataclass(frozen=True)
class ViewIndex:
    """V views, the mapping views first."""

    poses: Tensor  # [V, 4, 4] float64, cam_from_world
    descriptors: Tensor  # [V, K D] float32, L2-normalised
    words: Tensor  # [K, D] of the vocabulary, unit vectors
    mean: Tensor  # [K D] float32, of the pooled descriptors before it was subtracted
    mapping_views: int  # number of views where mapping images were taken
    key: str  # `index_key` of the map, extractor and options

    def __len__(self) -> int:
        return len(self.poses)

    def nearest(self, dense: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Indices and cosines [k] of the views that are most similar to an image with dense map [D, h, w]."""
        pooled = F.normalize(pool(dense, self.words.to(dense)) - self.mean.to(dense), dim=0)
        similarity = self.descriptors.to(pooled) @ pooled
        best = similarity.topk(min(count, len(self)))
        return best.indices, best.values


def build_index(
    gaussians: Gaussians,
    views: Sequence[PosedCamera],
    extractor: Extractor,
    options: ViewIndexOptions | None = None,
) -> ViewIndex:
    """The index of a map that was made of `views`; raises `GSplatLocError` if there are none."""
    options = options or ViewIndexOptions()
    if not views:
        raise GSplatLocError("expected mapping views to retrieve, found none: train this map anew")
    added = virtual_views(gaussians, views, options.virtual_views, _SEED)
    posed = [*views, *added]
    maps = [_dense_map(gaussians, view, extractor) for view in posed]
    generator = torch.Generator().manual_seed(_SEED)
    words = vocabulary(maps, options.words, generator)
    pooled = torch.stack([pool(dense, words) for dense in maps])
    mean = pooled.mean(0)
    poses = torch.stack([view.cam_from_world.double().cpu() for view in posed])
    descriptors = F.normalize(pooled - mean, dim=1)
    return ViewIndex(
        poses, descriptors, words, mean, len(views), index_key(gaussians, views, extractor.version, options)
    )


def cached_index(
    path: Path,
    gaussians: Gaussians,
    views: Sequence[PosedCamera],
    extractor: Extractor,
    options: ViewIndexOptions | None = None,
) -> ViewIndex:
    """The index in the file `path`; made and saved there if it is missing, or if its key differs.

    Where the file cannot be written, as in a read-only map, the index is made for every process anew.
    """
    options = options or ViewIndexOptions()
    index = load_index(path) if path.is_file() else None
    if index is not None and index.key == index_key(gaussians, views, extractor.version, options):
        return index
    index = build_index(gaussians, views, extractor, options)
    try:
        save_index(index, path)
    except GSplatLocError as error:
        log(f"retrieval indexes this map in every run: {error}", stream=sys.stderr)
    return index


def index_key(gaussians: Gaussians, views: Sequence[PosedCamera], extractor: str, options: Any) -> str:
    """A hash of everything that the index of a map depends on; `options` is a dataclass."""
    poses = torch.stack([view.cam_from_world.double().cpu() for view in views])
    digest = hashlib.sha256(repr((extractor, astuple(options), [view.camera for view in views])).encode())
    shown = [tensor for name, tensor in gaussians.per_gaussian().items() if name != "features"]
    if gaussians.antialiased:
        digest.update(b"antialiased")
    for tensor in (poses, *shown):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def save_index(index: ViewIndex, path: Path | str) -> None:
    """Write an index as safetensors, atomically; descriptors in half precision."""
    tensors = {
        "poses": index.poses,
        "descriptors": index.descriptors.half(),
        "words": index.words,
        "mean": index.mean,
    }
    metadata = {"format": _FORMAT, "key": index.key, "mapping_views": str(index.mapping_views)}
    write_tensors(path, tensors, metadata)


def load_index(path: Path | str) -> ViewIndex | None:
    """Read a file of `save_index`; None for another format: the index has to be made again."""
    with stored_tensors(path, "an index of views", "remove the file") as (tensors, metadata):
        if metadata.get("format") != _FORMAT:
            return None
        index = ViewIndex(
            poses=tensors["poses"],
            descriptors=F.normalize(tensors["descriptors"].float(), dim=1),
            words=tensors["words"],
            mean=tensors["mean"],
            mapping_views=int(metadata["mapping_views"]),
            key=metadata["key"],
        )
        _check(index)
        return index


def _check(index: ViewIndex) -> None:
    """Raise ValueError if a tensor has another shape than an index needs, or is not finite."""
    words, channels = index.words.shape
    shapes = {"poses": (len(index), 4, 4), "descriptors": (len(index), words * channels),
              "words": (words, channels), "mean": (words * channels,)}  # fmt: skip
    for name, shape in shapes.items():
        tensor = getattr(index, name)
        if tensor.shape != shape or not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} of shape {tuple(tensor.shape)}, or not finite")
    if not 0 <= index.mapping_views <= len(index):
        raise ValueError(f"{index.mapping_views} mapping views of {len(index)}")


def pool(dense: Tensor, words: Tensor) -> Tensor:
    """VLAD [K D] of a dense map [D, h, w] of unit descriptors."""
    descriptors = dense.flatten(1).T  # [n, D]
    nearest = (descriptors @ words.T).argmax(1)
    sums = torch.zeros_like(words).index_add_(0, nearest, descriptors - words[nearest])
    return F.normalize(F.normalize(sums, dim=1).flatten(), dim=0)


def vocabulary(maps: Sequence[Tensor], count: int, generator: torch.Generator) -> Tensor:
    """`count` unit vectors [K, D] near the descriptors of `maps` [D, h, w]: k-means by cosine."""
    drawn = [
        flat[torch.randperm(len(flat), generator=generator)[:_PER_VIEW].to(flat.device)]
        for flat in (dense.flatten(1).T for dense in maps)
    ]
    descriptors = torch.cat(drawn)
    start = torch.randperm(len(descriptors), generator=generator)[:count]
    words = descriptors[start.to(descriptors.device)]
    for _ in range(_ROUNDS):
        nearest = (descriptors @ words.T).argmax(1)
        sums = torch.zeros_like(words).index_add_(0, nearest, descriptors)
        empty = sums.norm(dim=1, keepdim=True) < 1e-6
        words = F.normalize(torch.where(empty, words, sums), dim=1)
    return words


@torch.no_grad()
def _dense_map(gaussians: Gaussians, view: PosedCamera, extractor: Extractor) -> Tensor:
    """The dense descriptors of the map's rendering at a view."""
    rgb = render(gaussians, view.camera, view.cam_from_world, RenderOptions()).rgb
    return extractor.extract(to_image(rgb)).dense
