"""Photos that were turned by a quarter turn: found by the others, with keypoints in their own pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gsplatloc.datasets.options import RoomOptions
from gsplatloc.datasets.room import make_room
from gsplatloc.localization.features import Keypoints, make_extractor
from gsplatloc.localization.quarter_turns import turn_image
from gsplatloc.localization.queries import QueryImage
from gsplatloc.mapping.feature_cache import FeatureCache
from gsplatloc.mapping.posing.turns import turned, turned_back, upright
from gsplatloc.scene import read_scene


def photo(name: str, image: np.ndarray) -> QueryImage:
    return QueryImage(name, lambda: image, lambda: None)


@pytest.mark.parametrize("quarters", range(4))
def test_keypoints_come_back_to_their_pixels(quarters: int) -> None:
    image = np.zeros((5, 8, 3), np.uint8)
    image[1, 6] = 255
    seen = turned(photo("a", image), quarters).load_image()
    row, column = np.argwhere(seen[:, :, 0])[0]
    keypoints = Keypoints(torch.tensor([[column + 0.5, row + 0.5]]), torch.ones(1, 4), torch.ones(1))
    assert turned_back(keypoints, (8, 5), quarters).xy.tolist() == [[6.5, 1.5]]


def test_photos_on_their_side_are_found(tmp_path: Path) -> None:
    make_room(tmp_path / "room", RoomOptions(train=9, test=0, arc=0.3, supersampling=1, seed=2))
    images = [view.load_image() for view in read_scene(tmp_path / "room").train]
    lying = {2: 1, 6: 3}
    images = [turn_image(image, lying.get(index, 0)) for index, image in enumerate(images)]
    # Portrait because it was cropped, not turned.
    images[4] = np.ascontiguousarray(images[4][:, : images[4].shape[0] // 2])
    photos = [photo(f"{index}.png", image) for index, image in enumerate(images)]
    sizes = [(image.shape[1], image.shape[0]) for image in images]
    cache = FeatureCache(tmp_path / "cache", make_extractor(top_k=1000))
    assert upright(photos, sizes, cache) == [0, 0, 3, 0, 0, 0, 1, 0, 0]
    assert upright(photos[:2], sizes[:2], cache) == [0, 0]
