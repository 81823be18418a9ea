"""Adapters of packages that are not installed here, with stand-ins that have the packages' signatures."""

import os
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gsplatloc.localization.features.xfeat import XFeatExtractor
from gsplatloc.localization.matching.images import make_matcher
from gsplatloc.utils.errors import GSplatLocError

IMAGE_A, IMAGE_B = np.zeros((96, 128, 3), np.uint8), np.full((120, 160, 3), 255, np.uint8)


@pytest.fixture(scope="module")
def extractor() -> XFeatExtractor:
    return XFeatExtractor()


class FakeRoma:
    """`romatch.models.matcher.RegressionMatcher`: paths in, a warp in [-1, 1] x [-1, 1] out."""

    def match(
        self, im_A_path: str, im_B_path: str, *args: Any, batched: bool = False, device: Any = None
    ) -> tuple[Tensor, Tensor]:
        assert isinstance(im_A_path, str | os.PathLike)
        with Image.open(im_A_path) as a, Image.open(im_B_path) as b:
            assert (a.size, b.size) == ((128, 96), (160, 120))
        warp = torch.zeros(4, 8, 4)  # [H, W, (x, y) in A and in B]: the centres of both
        warp[0, 0] = torch.tensor([-1.0, -1.0, 1.0, 1.0])
        return warp, torch.full((4, 8), 0.7)

    def sample(self, matches: Tensor, certainty: Tensor, num: int = 10000) -> tuple[Tensor, Tensor]:
        return matches.reshape(-1, 4)[:num], certainty.reshape(-1)[:num]

    def to_pixel_coordinates(
        self, coords: Tensor, H_A: int, W_A: int, H_B: int, W_B: int
    ) -> tuple[Tensor, Tensor]:
        half = [torch.tensor([width / 2, height / 2]) for height, width in ((H_A, W_A), (H_B, W_B))]
        return (coords[:, :2] + 1) * half[0], (coords[:, 2:] + 1) * half[1]


class FakeMast3r:
    """`mast3r.model.AsymmetricMASt3R`."""

    loaded: list[str] = []

    @classmethod
    def from_pretrained(cls, name: str) -> "FakeMast3r":
        cls.loaded.append(name)
        return cls()

    def to(self, device: Any) -> "FakeMast3r":
        return self


def fake_inference(
    pairs: list[tuple[dict, dict]], model: Any, device: Any, batch_size: int = 8, verbose: bool = True
) -> dict:
    """`dust3r.inference.inference`: descriptors and confidences of both images, with a batch dimension."""
    (first, second), result = pairs[0], {}
    for number, view in ((1, first), (2, second)):
        height, width = view["true_shape"][0]
        assert view["img"].shape == (1, 3, height, width)
        assert max(height, width) == 512 and height % 16 == width % 16 == 0
        assert view["img"].abs().max() <= 1
        result[f"pred{number}"] = {
            "desc": torch.zeros(1, height, width, 24),
            "desc_conf": torch.full((1, height, width), 3.0),
        }
    return result


def fake_reciprocal(
    pts1: Tensor, pts2: Tensor, subsample_or_initxy1: int = 8, device: str = "cuda", **matcher: Any
) -> tuple[np.ndarray, np.ndarray]:
    """`mast3r.fast_nn.fast_reciprocal_NNs`: pixel indices (x, y), one of them at the border."""
    assert set(matcher) == {"dist", "block_size"}
    index = np.array([[255, 191], [1, 100], [100, 50]], np.int32)
    return index, index.copy()


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both packages, as if they were installed."""
    contents: dict[str, dict[str, Any]] = {
        "romatch": {"roma_outdoor": lambda device, amp_dtype=None, **_: FakeRoma()},
        "mast3r": {},
        "mast3r.model": {"AsymmetricMASt3R": FakeMast3r},
        "mast3r.fast_nn": {"fast_reciprocal_NNs": fake_reciprocal},
        "mast3r.utils": {},
        "mast3r.utils.path_to_dust3r": {},
        "dust3r": {},
        "dust3r.inference": {"inference": fake_inference},
    }
    for name, values in contents.items():
        module = ModuleType(name)
        vars(module).update(SimpleNamespace(**values).__dict__)
        monkeypatch.setitem(sys.modules, name, module)


def test_roma_gives_pixels_of_both_images(packages: None, extractor: XFeatExtractor) -> None:
    matches = make_matcher("roma", extractor).match(IMAGE_A, IMAGE_B)
    assert len(matches) == 32
    assert matches.a[0].tolist() == [0, 0] and matches.b[0].tolist() == [160, 120]
    assert matches.a[1].tolist() == [64, 48] and matches.b[1].tolist() == [80, 60]
    assert torch.allclose(matches.confidence, torch.tensor(0.7))


def test_mast3r_gives_pixel_centres_of_both_images_off_the_border(
    packages: None, extractor: XFeatExtractor
) -> None:
    matches = make_matcher("mast3r", extractor).match(IMAGE_A, IMAGE_B)
    assert FakeMast3r.loaded[-1].startswith("naver/MASt3R")
    assert len(matches) == 2
    # index i of 512 pixels is at (i + 0.5) / 512 of the width
    assert matches.a[1].tolist() == [100.5 * 128 / 512, 50.5 * 96 / 384]
    assert matches.b[0].tolist() == [255.5 * 160 / 512, 191.5 * 120 / 384]
    assert torch.allclose(matches.confidence, torch.tensor(0.75))


@pytest.mark.parametrize(("name", "install"), [("roma", "pip install romatch"), ("mast3r", "git clone")])
def test_a_package_that_is_not_there_is_one_line_that_says_how_to_install_it(
    name: str, install: str, monkeypatch: pytest.MonkeyPatch, extractor: XFeatExtractor
) -> None:
    for package in ("romatch", "mast3r", "mast3r.model"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(GSplatLocError, match=install) as error:
        make_matcher(name, extractor)
    assert str(error.value).startswith(f"expected the package of --matcher {name}, found ")
    assert "\n" not in str(error.value)
