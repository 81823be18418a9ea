"""Videos and their frames by OpenCV, which ends the process at a path that is not UTF-8."""

from pathlib import Path

import cv2
import numpy as np

from gsplatloc.utils.io import utf8_path, writing

_JPEG_QUALITY = 95


def open_video(path: Path) -> cv2.VideoCapture:
    """A video to read frames from; one that OpenCV cannot read has none."""
    with utf8_path(path) as readable:  # opened here: the name is not needed any more
        return cv2.VideoCapture(readable)


def write_frame(path: Path, frame: np.ndarray) -> None:
    """Write a frame [H, W, 3] uint8 (BGR) as JPEG."""
    encoded = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
    with writing(path):
        path.write_bytes(encoded.tobytes())
