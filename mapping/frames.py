"""Training images, depth and feature maps: decoded ahead by one thread, kept within a budget of bytes."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.mapping.feature_cache import FeatureCache
from gsplatloc.mapping.options import FrameCacheOptions
from gsplatloc.scene.cameras import Camera, View
from gsplatloc.scene.images import resize_rgb
from gsplatloc.utils.device import AUTO, torch_device
from gsplatloc.utils.errors import GSplatLocError


def data_device(options: FrameCacheOptions, training: torch.device) -> torch.device:
    """Where frames of a run on the device `training` are kept, checked against what this machine has."""
    if options.data_device == AUTO:
        return training
    try:
        return torch_device(options.data_device)
    except GSplatLocError as error:
        raise GSplatLocError(f"--data_device: {error}") from None


@dataclass(frozen=True)
class TrainingFrame:
    """One view at the resolution of a training iteration."""

    view: View
    camera: Camera  # of `rgb`
    rgb: Tensor  # [3, H, W] float32 in [0, 1]
    features: Tensor | None = None  # [D, h, w] float32, L2-normalised
    depth: Tensor | None = None  # [H, W] float32 metres, 0 where unknown
    mask: Tensor | None = None  # [H, W] bool, False where the image is not used

    def small_mask(self) -> Tensor | None:
        """The mask at the size of the features: False where a cell covers a pixel that is not used."""
        if self.mask is None or self.features is None:
            return None
        size = self.features.shape[1], self.features.shape[2]
        return F.adaptive_avg_pool2d(self.mask.float()[None], size)[0] == 1


@dataclass(frozen=True)
class Request:
    """A view, and which of its images an iteration needs."""

    view: View
    scale: float = 1.0  # of the image's size, at most 1
    features: bool = False
    depth: bool = False

    @property
    def camera(self) -> Camera:
        camera = self.view.camera
        if self.scale == 1:
            return camera
        return camera.resized(
            max(1, round(camera.width * self.scale)), max(1, round(camera.height * self.scale))
        )


class _Part(NamedTuple):
    """An array of a frame."""

    kind: str
    name: str  # of the view
    size: tuple[int, int] | None = None  # of images: width, height


class FrameLoader:
    """Loads frames through a cache of tensors that drops the least recently used.

    Of an image only the size that was loaded last is kept. `prefetch` decodes in a background thread; `load`
    waits for it if needed. Both are called by one thread, the only one that uses the cache.
    """

    def __init__(
        self, options: FrameCacheOptions, features: FeatureCache | None, device: torch.device
    ) -> None:
        self._store, self._device, self._features = data_device(options, device), device, features
        self._capacity = options.image_cache_mb * 1_000_000
        self._kept: OrderedDict[tuple[str, str], tuple[_Part, Tensor]] = OrderedDict()  # by kind and name
        self._kept_bytes = 0
        self._pending: dict[_Part, Future[np.ndarray]] = {}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="decode")

    def __enter__(self) -> "FrameLoader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop decoding, and empty the cache."""
        self._worker.shutdown(wait=True, cancel_futures=True)
        self._pending.clear()
        self._kept.clear()
        self._kept_bytes = 0

    def prefetch(self, requests: Iterable[Request]) -> None:
        """Begin to decode the images of these requests; those of earlier requests are cancelled."""
        wanted = {part: decode for request in requests for part, decode in self._parts(request).items()}
        for part in self._pending.keys() - wanted.keys():
            self._pending.pop(part).cancel()
        for part, decode in wanted.items():
            if self._cached(part) is None and part not in self._pending:
                self._pending[part] = self._worker.submit(decode)

    def load(self, request: Request) -> TrainingFrame:
        """The frame on the training device."""
        parts = {part.kind: self._get(part, decode) for part, decode in self._parts(request).items()}
        depth, features = parts.get("depth"), parts.get("features")
        return TrainingFrame(
            view=request.view,
            camera=request.camera,
            rgb=_unit_range(self._here(parts["rgb"])),
            features=None if features is None else self._here(features).float(),
            depth=None if depth is None else self._here(depth),
            mask=self._here(parts["mask"]) if "mask" in parts else None,
        )

    def _here(self, tensor: Tensor) -> Tensor:
        # Copies to a GPU are ordered with later work on it; a copy from a GPU to the CPU must be waited for.
        return tensor.to(self._device, non_blocking=self._device.type == "cuda")

    def _parts(self, request: Request) -> dict[_Part, Callable[[], np.ndarray]]:
        """How to decode each array that a request needs."""
        view, camera = request.view, request.camera
        size = camera.width, camera.height
        parts = {_Part("rgb", view.name, size): lambda: _decode_rgb(view, camera)}
        if view.load_mask is not None:
            parts[_Part("mask", view.name, size)] = lambda: decode_mask(view, *size)
        if request.depth and view.load_depth is not None:
            parts[_Part("depth", view.name, size)] = lambda: decode_depth(view, camera)
        cache = self._features
        if request.features and cache is not None:
            parts[_Part("features", view.name)] = lambda: cache.load_dense(view)
        return parts

    def _get(self, part: _Part, decode: Callable[[], np.ndarray]) -> Tensor:
        cached = self._cached(part)
        if cached is not None:
            self._kept.move_to_end(part[:2])
            return cached
        pending = self._pending.pop(part, None)
        tensor = self._stored(pending.result() if pending else decode())
        if part[:2] in self._kept:  # at another size
            self._kept_bytes -= self._kept.pop(part[:2])[1].nbytes
        if tensor.nbytes <= self._capacity:
            self._kept[part[:2]] = part, tensor
            self._kept_bytes += tensor.nbytes
        while self._kept_bytes > self._capacity:
            self._kept_bytes -= self._kept.popitem(last=False)[1][1].nbytes
        return tensor

    def _cached(self, part: _Part) -> Tensor | None:
        kept, tensor = self._kept.get(part[:2], (None, None))
        return tensor if kept == part else None

    def _stored(self, array: np.ndarray) -> Tensor:
        """`array` on the device of the cache; pinned: a GPU then copies without a wait."""
        tensor = torch.from_numpy(array)
        if "cuda" in (self._store.type, self._device.type):
            tensor = tensor.pin_memory()
        return tensor.to(self._store, non_blocking=True)


def decode_depth(view: View, camera: Camera) -> np.ndarray:
    """Measured depth [H, W] float32 metres at the size of `camera`, 0 where unknown."""
    if view.load_depth is None:
        raise ValueError(f"{view.name} has no depth")
    depth = view.load_depth()
    if depth.shape == (camera.height, camera.width):
        return depth
    # Nearest: averaging across an edge would invent a surface between the two.
    return cv2.resize(depth, (camera.width, camera.height), interpolation=cv2.INTER_NEAREST_EXACT)


def decode_mask(view: View, width: int, height: int) -> np.ndarray:
    """The mask [height, width] bool of a view that has one; a pixel is used if all that it covers is."""
    if view.load_mask is None:
        raise ValueError(f"{view.name} has no mask")
    used = view.load_mask().astype(np.uint8) * 255
    return cv2.resize(used, (width, height), interpolation=cv2.INTER_AREA) == 255


def masked_target(target: Tensor, rendered: Tensor, mask: Tensor | None) -> Tensor:
    """`target` [C, H, W] with the rendered values, which give no gradient, where the mask [H, W] is False."""
    return target if mask is None else torch.where(mask, target, rendered.detach())


def _decode_rgb(view: View, camera: Camera) -> np.ndarray:
    return np.ascontiguousarray(resize_rgb(view.load_image(), camera.width, camera.height))


def _unit_range(rgb: Tensor) -> Tensor:
    """[H, W, 3] uint8 -> [3, H, W] float32 in [0, 1], on its device: bytes are copied, not floats."""
    planes = rgb.permute(2, 0, 1).to(torch.float32, memory_format=torch.contiguous_format)
    return planes.div_(255)
