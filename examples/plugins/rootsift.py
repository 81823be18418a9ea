"""A feature extractor in one file: RootSIFT of OpenCV, 128 channels, keypoints and a dense map.

GSPLATLOC_PLUGINS=examples/plugins/rootsift.py gsplatloc train -s SCENE -m OUT --extractor rootsift

Arandjelovic & Zisserman, "Three things everyone should know to improve object retrieval" (CVPR 2012): the
square root of L1-normalised SIFT, whose scalar product is the Hellinger kernel.
"""

import cv2
import numpy as np
import torch
from torch import Tensor

from gsplatloc.localization.features import EXTRACTORS, Extractor, Features, Keypoints
from gsplatloc.utils.registry import NoOptions

_CELL = 8  # pixels per cell of the dense map
_PATCH = 12.0  # pixels: the size of the SIFT patch in the middle of a cell


class RootSiftExtractor:
    """`Extractor` with the keypoints of SIFT."""

    name = "rootsift"
    version = "rootsift-1"  # to be changed whenever the same image would give other features
    channels = 128

    def __init__(self, device: torch.device | str, top_k: int):
        self.device, self.top_k = torch.device(device), top_k
        self._sift = cv2.SIFT_create(contrastThreshold=0.01)

    def extract(self, image: np.ndarray) -> Features:
        """Features of an image [H, W, 3] uint8 RGB."""
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        found = sorted(self._sift.detect(grey, None), key=lambda keypoint: -keypoint.response)[: self.top_k]
        found, descriptors = self._sift.compute(grey, found)
        # OpenCV counts from the centre of the first pixel, this library from its corner.
        xy = np.array([keypoint.pt for keypoint in found], np.float32).reshape(-1, 2) + 0.5
        scores = np.array([keypoint.response for keypoint in found], np.float32)
        keypoints = Keypoints(self._tensor(xy), self._rooted(descriptors), self._tensor(scores))
        return Features(keypoints, self._dense(grey))

    def dense_size(self, width: int, height: int) -> tuple[int, int]:
        """(height, width) of the dense map of a `width` x `height` image, in cells."""
        return height // _CELL, width // _CELL

    def _dense(self, grey: np.ndarray) -> Tensor:
        """Descriptors [128, h, w] of upright patches in the middle of the cells."""
        rows, columns = self.dense_size(grey.shape[1], grey.shape[0])
        height, width = grey.shape[0] / rows, grey.shape[1] / columns  # pixels per cell
        centres = [
            cv2.KeyPoint((column + 0.5) * width - 0.5, (row + 0.5) * height - 0.5, _PATCH, 0.0)
            for row in range(rows)
            for column in range(columns)
        ]
        _, descriptors = self._sift.compute(grey, centres)
        return self._rooted(descriptors).T.reshape(self.channels, rows, columns).contiguous()

    def _rooted(self, descriptors: np.ndarray | None) -> Tensor:
        """The square root of L1-normalised descriptors: of Euclidean length 1."""
        values = np.zeros((0, self.channels), np.float32) if descriptors is None else descriptors
        length = np.maximum(values.sum(1, keepdims=True), 1e-6)
        return self._tensor(np.sqrt(values / length))

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.device)


@EXTRACTORS.register("rootsift", help="RootSIFT of OpenCV: 128 channels, no network")
def make(options: NoOptions, device: torch.device | str, top_k: int) -> Extractor:
    return RootSiftExtractor(device, top_k)
