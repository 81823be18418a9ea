"""Features of an image are extracted once, whichever tiles' localizers ask for them."""

import hashlib
import threading
from collections import OrderedDict

import numpy as np

from gsplatloc.localization.features import Extractor, Features

_KEPT_FEATURES = 4  # images whose features are kept


class SharedExtractor:
    """An extractor that keeps the features of the last images, for localizers of several tiles."""

    def __init__(self, extractor: Extractor) -> None:
        self._extractor = extractor
        self.name, self.version, self.channels = extractor.name, extractor.version, extractor.channels
        self.device, self.top_k = extractor.device, extractor.top_k
        self._kept: OrderedDict[bytes, Features] = OrderedDict()
        self._lock = threading.Lock()

    def extract(self, image: np.ndarray) -> Features:
        """Features of an image [H, W, 3] uint8 RGB, on `device`."""
        key = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16)
        key.update(str(image.shape).encode())
        with self._lock:
            found = self._kept.get(key.digest())
        if found is None:
            found = self._extractor.extract(image)
            with self._lock:
                self._kept[key.digest()] = found
                while len(self._kept) > _KEPT_FEATURES:
                    self._kept.popitem(last=False)
        return found

    def dense_size(self, width: int, height: int) -> tuple[int, int]:
        return self._extractor.dense_size(width, height)
