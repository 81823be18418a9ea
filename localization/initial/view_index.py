"""Starts for a refinement without landmarks: views of the map that look like the photo.

The index is made of the map alone: it is rendered where the mapping images were taken and, as GSLoc
(Botashev et al. 2024) proposes, from virtual views in between. No training image is read. Every rendering is
described by its pooled XFeat descriptors. XFeat's 64 channels average to nearly the same vector everywhere,
so what is pooled is how a view's descriptors differ from the words of a small vocabulary of this map: VLAD
(Jegou et al. 2010), every word normalised by itself (Arandjelovic & Zisserman 2013).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Literal

import safetensors
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.localization.alignment.rendered_view import to_image
from gsplatloc.localization.features import Extractor
from gsplatloc.localization.initial.virtual_views import VirtualViewOptions, virtual_views
from gsplatloc.scene.cameras import PosedCamera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import atomic_path

FILE_NAME = "views.safetensors"
_FORMAT = "gsplatloc-views-1"
_PER_VIEW = 256  # descriptors of each view that the vocabulary is made of
_ROUNDS = 15  # of k-means
_GEM_POWER = 3.0  # generalised mean (Radenovic et al. 2018)


@dataclass(frozen=True)
class ViewIndexOptions:
    """What the index holds, and how views are described."""

    virtual_views: int = 0  # rendered virtual views beside the mapping views
    pooling: Literal["vlad", "gem"] = "vlad"  # gem: the generalised mean, for comparison
    words: int = 32  # of the vocabulary
    seed: int = 0  # of virtual views and vocabulary
    virtual: VirtualViewOptions = field(default_factory=VirtualViewOptions)


@dataclass(frozen=True)
class ViewIndex:
    """V views, the mapping views first."""

    poses: Tensor  # [V, 4, 4] float64, cam_from_world
    descriptors: Tensor  # [V, D] float32, L2-normalised
    words: Tensor  # [K, D] of the vocabulary, unit vectors; K = 0 for the generalised mean
    mean: Tensor  # [D] float32, of the pooled descriptors before it was subtracted
    mapping_views: int  # so many of the views are where mapping images were taken
    key: str  # of what it was made from: `index_key`

    def __len__(self) -> int:
        return len(self.poses)

    def nearest(self, dense: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Indices [k] of the views most like a photo with dense map [D, h, w], and their cosines [k]."""
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
    """The index of a map that was made of `views`; raises `GSplatLocError` where there are none."""
    options = options or ViewIndexOptions()
    if not views:
        raise GSplatLocError("expected mapping views to retrieve, found none: train this map anew")
    added = virtual_views(gaussians, views, options.virtual_views, options.seed, options.virtual)
    posed = [*views, *added]
    maps = [_dense_map(gaussians, view, extractor) for view in posed]
    generator = torch.Generator().manual_seed(options.seed)
    words = vocabulary(maps, options.words if options.pooling == "vlad" else 0, generator)
    pooled = torch.stack([pool(dense, words) for dense in maps])
    mean = pooled.mean(0)
    poses = torch.stack([view.cam_from_world.double().cpu() for view in posed])
    descriptors = F.normalize(pooled - mean, dim=1)
    return ViewIndex(
        poses, descriptors, words, mean, len(views), index_key(gaussians, views, extractor.version, options)
    )


def cached_index(
    folder: Path | str,
    gaussians: Gaussians,
    views: Sequence[PosedCamera],
    extractor: Extractor,
    options: ViewIndexOptions | None = None,
) -> ViewIndex:
    """The index kept in a map's folder; made, and kept there, where it is missing or of something else."""
    options = options or ViewIndexOptions()
    path = Path(folder) / FILE_NAME
    index = load_index(path) if path.is_file() else None
    if index is not None and index.key == index_key(gaussians, views, extractor.version, options):
        return index
    index = build_index(gaussians, views, extractor, options)
    save_index(index, path)
    return index


def index_key(
    gaussians: Gaussians, views: Sequence[PosedCamera], extractor: str, options: ViewIndexOptions
) -> str:
    """Changes whenever the index of a map would."""
    poses = torch.stack([view.cam_from_world.double().cpu() for view in views])
    said = hashlib.sha256(repr((extractor, astuple(options), [view.camera for view in views])).encode())
    for tensor in (poses, gaussians.means, gaussians.sh[:, 0], gaussians.opacity_logits):
        said.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return said.hexdigest()[:32]


def save_index(index: ViewIndex, path: Path | str) -> None:
    """Write an index as safetensors, atomically; descriptors in half precision."""
    tensors = {
        "poses": index.poses,
        "descriptors": index.descriptors.half(),
        "words": index.words,
        "mean": index.mean,
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"format": _FORMAT, "key": index.key, "mapping_views": str(index.mapping_views)}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata)


def load_index(path: Path | str) -> ViewIndex | None:
    """Read what `save_index` wrote; None for a file of another format, which is to be made anew."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (safetensors.SafetensorError, OSError) as error:
        raise GSplatLocError(
            f"expected an index of views in {path}, found {error}: remove the file"
        ) from None
    if metadata.get("format") != _FORMAT:
        return None
    return ViewIndex(
        poses=tensors["poses"],
        descriptors=F.normalize(tensors["descriptors"].float(), dim=1),
        words=tensors["words"],
        mean=tensors["mean"],
        mapping_views=int(metadata["mapping_views"]),
        key=metadata["key"],
    )


def pool(dense: Tensor, words: Tensor) -> Tensor:
    """A dense map [D, h, w] of unit descriptors -> [K * D], or [D] without words."""
    descriptors = dense.flatten(1).T  # [n, D]
    if not len(words):
        return descriptors.clamp(min=1e-6).pow(_GEM_POWER).mean(0).pow(1 / _GEM_POWER)
    nearest = (descriptors @ words.T).argmax(1)
    sums = torch.zeros_like(words).index_add_(0, nearest, descriptors - words[nearest])
    return F.normalize(F.normalize(sums, dim=1).flatten(), dim=0)


def vocabulary(maps: Sequence[Tensor], count: int, generator: torch.Generator) -> Tensor:
    """`count` unit vectors [K, D] that the descriptors of `maps` [D, h, w] are near: k-means by cosine."""
    if count == 0:
        return maps[0].new_zeros(0, maps[0].shape[0])
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
    """XFeat's map of what the map looks like from a view."""
    rgb = render(gaussians, view.camera, view.cam_from_world, RenderOptions()).rgb
    return extractor.extract(to_image(rgb)).dense
