"""Frames from the cache and from disk, and how much memory they take."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gsplatloc.mapping.feature_cache import FeatureCache
from gsplatloc.mapping.frames import FrameLoader, Request, data_device
from gsplatloc.mapping.options import FrameCacheOptions
from gsplatloc.scene.cameras import Camera, View
from gsplatloc.utils.errors import GSplatLocError

CPU = torch.device("cpu")
PAGE = 4096  # bytes


class CountingImage:
    """An image made of one number, which counts how often it is decoded."""

    def __init__(self, value: int, height: int, width: int) -> None:
        self.value, self.shape, self.decoded = value, (height, width, 3), 0

    def __call__(self) -> np.ndarray:
        self.decoded += 1
        return np.full(self.shape, self.value, np.uint8)


def make_view(index: int, height: int = 8, width: int = 16) -> tuple[View, CountingImage]:
    image = CountingImage(index % 256, height, width)
    camera = Camera(width, height, 10.0, 10.0, width / 2, height / 2)
    return View(str(index), camera, torch.eye(4, dtype=torch.float64), Path(str(index)), image), image


def loader(megabytes: int = 1, features: FeatureCache | None = None) -> FrameLoader:
    return FrameLoader(FrameCacheOptions(image_cache_mb=megabytes), features, CPU)


def test_a_frame_is_the_image_in_unit_range() -> None:
    view, _ = make_view(51)
    with loader() as frames:
        frame = frames.load(Request(view))
    assert frame.rgb.shape == (3, 8, 16) and torch.allclose(frame.rgb, torch.tensor(0.2))
    assert frame.features is None and frame.depth is None


def test_what_is_in_the_cache_is_not_decoded_again() -> None:
    view, image = make_view(1)
    with loader() as frames:
        for _ in range(3):
            frames.load(Request(view))
    assert image.decoded == 1


def test_of_an_image_one_size_is_kept() -> None:
    view, image = make_view(1)
    with loader() as frames:
        for scale in (0.25, 0.5, 0.5, 1.0, 1.0):
            frames.load(Request(view, scale))
        assert image.decoded == 3
        frames.load(Request(view, 0.5))  # is no longer there
        assert image.decoded == 4


def test_a_closed_loader_holds_no_images() -> None:
    view, image = make_view(1)
    frames = loader()
    frames.load(Request(view))
    frames.close()
    frames.load(Request(view))
    assert image.decoded == 2


def test_what_was_decoded_ahead_is_used() -> None:
    view, image = make_view(1)
    with loader(0) as frames:
        frames.prefetch([Request(view)])
        assert frames.load(Request(view)).rgb[0, 0, 0].item() == pytest.approx(1 / 255)
    assert image.decoded == 1


def test_smaller_images_come_with_their_camera() -> None:
    view, _ = make_view(3)
    with loader() as frames:
        frame = frames.load(Request(view, scale=0.5))
    assert frame.rgb.shape == (3, 4, 8)
    assert frame.camera == Camera(8, 4, 5.0, 5.0, 4.0, 2.0)


def test_depth_is_resampled_without_mixing() -> None:
    view, _ = make_view(0)
    depth = np.tile(np.array([1.0, 3.0], np.float32), (8, 8))
    with loader() as frames:
        frame = frames.load(Request(replace(view, load_depth=lambda: depth), scale=0.5, depth=True))
    assert frame.depth is not None and set(frame.depth.unique().tolist()) <= {1.0, 3.0}


def test_memory_does_not_grow_with_the_number_of_images() -> None:
    views = [make_view(index, 700, 1000)[0] for index in range(150)]  # 2.1 MB each, 315 MB together

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE

    with loader(megabytes=8) as frames:
        requests = [Request(view) for view in views]
        sizes = []
        for index, request in enumerate(requests):
            frames.prefetch(requests[index + 1 : index + 4])
            frames.load(request)
            sizes.append(resident())
    growth = max(sizes[30:]) - max(sizes[:30])
    assert growth < 60e6  # the images that came later have 252 MB


def test_a_device_that_is_not_there_is_a_users_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(GSplatLocError, match="--data_device"):
        FrameLoader(FrameCacheOptions(data_device="cuda"), None, CPU)
    with pytest.raises(GSplatLocError, match="found 'disk'"):
        FrameLoader(FrameCacheOptions(data_device="disk"), None, CPU)


def test_images_live_where_training_runs_unless_told_otherwise() -> None:
    gpu = torch.device("cuda", 1)
    assert data_device(FrameCacheOptions(), gpu) == gpu
    assert data_device(FrameCacheOptions(data_device="cpu"), gpu) == CPU


def test_an_image_that_cannot_be_decoded_fails_where_it_is_needed() -> None:
    def broken() -> np.ndarray:
        raise GSplatLocError("expected an image, found none")

    view = replace(make_view(0)[0], load_image=broken)
    with loader() as frames:
        frames.prefetch([Request(view)])
        with pytest.raises(GSplatLocError, match="expected an image"):
            frames.load(Request(view))
