"""Training images, depth and feature maps: decoded ahead by one thread, kept within a budget of bytes."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

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


class FrameLoader:
    """Loads frames through a cache of tensors that drops the least recently used.

    `prefetch` decodes in a background thread; `load` waits for it if needed. Both are called by one thread,
    the only one that uses the cache.
    """

    def __init__(
        self, options: FrameCacheOptions, features: FeatureCache | None, device: torch.device
    ) -> None:
        self._store, self._device, self._features = data_device(options, device), device, features
        self._capacity = options.image_cache_mb * 1_000_000
        self._kept: OrderedDict[str, Tensor] = OrderedDict()
        self._kept_bytes = 0
        self._pending: dict[str, Future[np.ndarray]] = {}
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
        wanted = {key: decode for request in requests for key, decode in self._parts(request).items()}
        for key in self._pending.keys() - wanted.keys():
            self._pending.pop(key).cancel()
        for key, decode in wanted.items():
            if key not in self._kept and key not in self._pending:
                self._pending[key] = self._worker.submit(decode)

    def load(self, request: Request) -> TrainingFrame:
        """The frame on the training device."""
        parts = {
            key.partition(":")[0]: self._get(key, decode) for key, decode in self._parts(request).items()
        }
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

    def _parts(self, request: Request) -> dict[str, Callable[[], np.ndarray]]:
        """How to decode each array that a request needs, by its key in the cache."""
        view, camera = request.view, request.camera
        name = f"{camera.width}x{camera.height}:{view.name}"
        parts: dict[str, Callable[[], np.ndarray]] = {f"rgb:{name}": lambda: _decode_rgb(view, camera)}
        if view.load_mask is not None:
            parts[f"mask:{name}"] = lambda: decode_mask(view, camera.width, camera.height)
        if request.depth and view.load_depth is not None:
            parts[f"depth:{name}"] = lambda: decode_depth(view, camera)
        cache = self._features
        if request.features and cache is not None:
            parts[f"features:{view.name}"] = lambda: cache.load_dense(view)
        return parts

    def _get(self, key: str, decode: Callable[[], np.ndarray]) -> Tensor:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        pending = self._pending.pop(key, None)
        tensor = self._stored(pending.result() if pending else decode())
        if tensor.nbytes <= self._capacity:
            self._kept[key] = tensor
            self._kept_bytes += tensor.nbytes
        while self._kept_bytes > self._capacity:
            self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes
        return tensor

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
