"""Pictures with corners everywhere, and how far apart the keypoints found in them are."""

import numpy as np
import torch

from gsplatloc.localization.features import Extractor, Features

FIRST, SIZE = 224, 192  # pixels: where the textured square of `shifted_pair` begins, and its side


def textured_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Random blocks of several sizes: corners everywhere."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3))
    for block in (6, 13, 29):
        coarse = rng.integers(0, 80, (height // block + 1, width // block + 1, 3))
        image += coarse.repeat(block, 0).repeat(block, 1)[:height, :width]
    return image.astype(np.uint8)


def shifted_pair(extractor: Extractor, shift: int) -> tuple[Features, Features]:
    """Features of a textured square in a wide grey frame, and of the same moved by `shift` pixels."""
    frames = []
    for offset in (0, shift):
        frame = np.full((704, 704, 3), 128, np.uint8)
        inner = slice(FIRST + offset, FIRST + offset + SIZE)
        frame[inner, inner] = textured_image(SIZE, SIZE)
        frames.append(extractor.extract(frame))
    return frames[0], frames[1]


def inside(xy: torch.Tensor, offset: int) -> torch.Tensor:
    """Mask [N] of the points that are in the square moved by `offset`."""
    return ((xy > FIRST + offset) & (xy < FIRST + SIZE + offset)).all(1)


def distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """All distances [N, M], without the cancellation of the matrix product formula."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
