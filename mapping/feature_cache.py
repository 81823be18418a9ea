"""Features of the training images, computed once and kept on disk in half precision."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, overload

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from gsplatloc.localization.features import Extractor, Features, Keypoints
from gsplatloc.utils.console import progress
from gsplatloc.utils.io import atomic_path
from gsplatloc.utils.locks import sweep
from gsplatloc.utils.tensors import opened

# Type and number of axes of the tensors of an entry.
_KINDS = {"xy": ("F32", 2), "descriptors": ("F16", 2), "scores": ("F32", 1), "dense": ("F16", 3)}


class NamedImage(Protocol):
    """A view, or an image without a pose."""

    @property
    def name(self) -> str: ...

    @property
    def load_image(self) -> Callable[[], np.ndarray]: ...


class FeatureCache:
    """Features by view. An entry's name is a hash of the image's pixels and of the extractor's version.

    A changed image, resolution or network has another name, so a stale entry is never read.
    """

    def __init__(self, folder: Path | str, extractor: Extractor) -> None:
        self.extractor = extractor
        self.folder = Path(folder)
        self._paths: dict[str, Path] = {}  # by the view's name, filled as images are first seen

    def prepare(self, views: Sequence[NamedImage], quiet: bool = False) -> None:
        """Compute the missing entries. Afterwards `load` and `load_dense` only read files."""
        sweep(self.folder)
        for view in progress(views, len(views), "features", quiet):
            self._entry(view)

    def load(self, view: NamedImage) -> Features:
        """Keypoints and dense map of a view, in single precision."""
        with opened(self._entry(view)) as file:
            xy, descriptors, scores = (file.get_tensor(name) for name in ("xy", "descriptors", "scores"))
            dense = file.get_tensor("dense").float()
        return Features(_unmasked(view, Keypoints(xy, descriptors.float(), scores)), dense)

    def load_keypoints(self, view: NamedImage) -> Keypoints:
        """The keypoints alone: a small part of the entry."""
        with opened(self._entry(view)) as file:
            xy, descriptors, scores = (file.get_tensor(name) for name in ("xy", "descriptors", "scores"))
        return _unmasked(view, Keypoints(xy, descriptors.float(), scores))

    def load_dense(self, view: NamedImage) -> np.ndarray:
        """The dense map [D, h, w] as float16, L2-normalised."""
        with opened(self._entry(view), "np") as file:
            dense: np.ndarray = file.get_tensor("dense")
        return dense

    def _entry(self, view: NamedImage) -> Path:
        if view.name not in self._paths:
            image = view.load_image()
            path = self.folder / f"{self._key(image)}.safetensors"
            dense_size = self.extractor.dense_size(image.shape[1], image.shape[0])
            if not _readable(path, (self.extractor.channels, *dense_size)):
                self._write(path, self.extractor.extract(image))
            self._paths[view.name] = path
        return self._paths[view.name]

    def _key(self, image: np.ndarray) -> str:
        digest = hashlib.blake2b(digest_size=16)
        digest.update(f"{self.extractor.version} {self.extractor.top_k} {image.shape}".encode())
        digest.update(np.ascontiguousarray(image).data)
        return digest.hexdigest()

    def _write(self, path: Path, features: Features) -> None:
        keypoints = features.keypoints
        tensors = {
            "xy": keypoints.xy.float(),  # half precision would round pixels of large images
            "descriptors": keypoints.descriptors.half(),
            "scores": keypoints.scores.float(),
            "dense": features.dense.half(),
        }
        with atomic_path(path, durable=False) as temporary:
            save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, temporary)


class CachedKeypoints(Sequence[Keypoints]):
    """The keypoints of views, in the views' order, read on demand; at most 256 entries stay in memory."""

    _KEPT = 256  # of about half a megabyte each

    def __init__(self, cache: FeatureCache, views: Sequence[NamedImage]) -> None:
        self._cache, self._views = cache, views
        self._kept: OrderedDict[int, Keypoints] = OrderedDict()

    def __len__(self) -> int:
        return len(self._views)

    @overload
    def __getitem__(self, index: int) -> Keypoints: ...

    @overload
    def __getitem__(self, index: slice) -> list[Keypoints]: ...

    def __getitem__(self, index: int | slice) -> Keypoints | list[Keypoints]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        if index not in self._kept:
            self._kept[index] = self._cache.load_keypoints(self._views[index])
        self._kept.move_to_end(index)
        if len(self._kept) > self._KEPT:
            self._kept.popitem(last=False)
        return self._kept[index]


def _unmasked(view: NamedImage, keypoints: Keypoints) -> Keypoints:
    """The keypoints of those parts of the image that its mask, if it has one, does not leave out."""
    load_mask = getattr(view, "load_mask", None)
    if load_mask is None or not len(keypoints):
        return keypoints
    mask = load_mask()
    column, row = keypoints.xy.long().T.numpy()  # pixel k covers [k, k + 1)
    return keypoints.select(
        torch.from_numpy(mask[row.clip(0, len(mask) - 1), column.clip(0, mask.shape[1] - 1)])
    )


def _readable(path: Path, dense: tuple[int, ...]) -> bool:
    """Whether a complete entry with a dense map of this shape is there."""
    try:
        with opened(path) as file:
            entries = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118, not a dict
            kinds = {name: (entry.get_dtype(), len(entry.get_shape())) for name, entry in entries.items()}
            counts = {tuple(entries[name].get_shape())[0] for name in ("xy", "descriptors", "scores")}
            return kinds == _KINDS and len(counts) == 1 and tuple(entries["dense"].get_shape()) == dense
    except (OSError, SafetensorError, KeyError, IndexError, ValueError):
        return False
