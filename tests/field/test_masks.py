"""Masks and depth beside images: what a mask leaves out is not trained on, matched or measured."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from gsplatloc.gaussian_renderer import RenderOptions
from gsplatloc.mapping.aggregation import aggregate_descriptors
from gsplatloc.mapping.feature_cache import FeatureCache
from gsplatloc.mapping.frames import FrameLoader, Request, masked_target
from gsplatloc.mapping.losses import photometric_loss
from gsplatloc.mapping.mask_check import check_masks
from gsplatloc.mapping.options import FrameCacheOptions
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import View
from gsplatloc.utils.errors import GSplatLocError
from tests.field.test_colmap_models import write_model
from tests.mapping.conftest import GridExtractor, make_views, true_gaussians

POSE = np.eye(4).tolist()


def write_scene(root: Path, depth_key: str = "depth_path", **frame: Any) -> Path:
    """One image of 64 x 48 whose left half is masked, with depth 2 m."""
    for folder in ("images", "masks", "depth"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(root / "images" / "a.png"), np.full((48, 64, 3), 90, np.uint8))
    mask = np.full((48, 64), 255, np.uint8)
    mask[:, :32] = 0
    cv2.imwrite(str(root / "masks" / "a.png"), mask)
    cv2.imwrite(str(root / "depth" / "a.png"), np.full((24, 32), 2000, np.uint16))
    np.save(root / "depth" / "a.npy", np.full((48, 64, 1), 3.0, np.float32))
    listed = {"file_path": "images/a.png", "mask_path": "masks/a.png", depth_key: "depth/a.png"}
    frames = [{"transform_matrix": POSE, **listed, **frame}]
    (root / "transforms.json").write_text(json.dumps({"fl_x": 50.0, "w": 64, "h": 48, "frames": frames}))
    return root


def only_view(root: Path) -> View:
    (view,) = read_scene(root).train
    return view


@pytest.mark.parametrize("key", ["depth_path", "depth_file_path"])
def test_masks_and_depth_of_transforms_files_are_read(tmp_path: Path, key: str) -> None:
    view = only_view(write_scene(tmp_path, key))
    assert view.load_mask is not None and view.load_depth is not None
    assert view.load_mask()[:, 32:].all() and not view.load_mask()[:, :32].any()
    assert (view.load_depth()[:, 32:] == 2).all() and not view.load_depth()[:, :32].any()


@pytest.mark.parametrize(
    "distortion", [{}, {"k1": -0.02, "fl_x": 80.0}, {"k1": -0.02, "w": 128, "h": 96, "fl_x": 160.0}]
)
def test_they_follow_the_image_through_undistortion(tmp_path: Path, distortion: dict[str, float]) -> None:
    root = write_scene(tmp_path, **distortion)
    size = int(distortion.get("w", 64)), int(distortion.get("h", 48))
    cv2.imwrite(str(root / "images" / "a.png"), np.zeros((size[1], size[0], 3), np.uint8))
    view = only_view(root)
    assert view.load_mask is not None and view.load_depth is not None
    shape = view.load_image().shape[:2]
    assert view.load_mask().shape == view.load_depth().shape == shape
    center = round(view.camera.cx)  # where the mask begins, and what no radial distortion moves
    assert not view.load_mask()[:, : center - 3].any()
    assert view.load_mask()[5:-5, center + 3 : -5].all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint16])
def test_depth_arrays_are_read(tmp_path: Path, dtype: Any) -> None:
    root = write_scene(tmp_path, depth_path="depth/a.npy")
    depth = np.full((48, 64), 3, np.float64)
    depth[0, 60], depth[1, 60] = (np.nan, -np.inf) if dtype != np.uint16 else (0, 0)
    np.save(root / "depth" / "a.npy", (depth * (1000 if dtype == np.uint16 else 1)).astype(dtype))
    view = only_view(root)
    assert view.load_depth is not None
    found = view.load_depth()
    assert found.dtype == np.float32 and found[20, 40] == 3 and found[0, 60] == found[1, 60] == 0


def test_masks_of_colmap_are_found(tmp_path: Path) -> None:
    write_model(tmp_path, 2)
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "masks" / "1.png.png"), np.zeros((60, 80), np.uint8))
    masks = {view.name: view.load_mask for view in read_scene(tmp_path).train}
    assert masks["0.png"] is None
    assert masks["1.png"] is not None and not masks["1.png"]().any()


def left_masked(view: View) -> View:
    mask = np.ones((view.camera.height, view.camera.width), bool)
    mask[:, : view.camera.width // 2] = False
    return replace(view, load_mask=lambda: mask)


def test_what_is_masked_has_no_gradient(tmp_path: Path) -> None:
    view = left_masked(make_views(tmp_path, 1)[0])
    cache = FeatureCache(tmp_path / "cache", GridExtractor())
    with FrameLoader(FrameCacheOptions(), cache, torch.device("cpu")) as loader:
        frame = loader.load(Request(view, features=True))
    assert frame.mask is not None and frame.features is not None
    rendered = torch.rand_like(frame.rgb).requires_grad_()
    photometric_loss(rendered, masked_target(frame.rgb, rendered, frame.mask), 0.2).backward()
    assert rendered.grad is not None
    assert rendered.grad[:, :, :10].abs().max() < 1e-8  # the window of SSIM reaches 10 pixels
    assert rendered.grad[:, :, 20:].abs().max() > 0
    small = frame.small_mask()
    assert small is not None and small.shape == frame.features.shape[1:]
    assert not small[:, : small.shape[1] // 2].any() and small[:, -1].all()


def test_keypoints_in_masked_parts_are_dropped(tmp_path: Path) -> None:
    view = make_views(tmp_path, 1)[0]
    cache = FeatureCache(tmp_path / "cache", GridExtractor())
    every, kept = cache.load_keypoints(view), cache.load_keypoints(left_masked(view))
    assert 0 < len(kept) < len(every)
    assert (kept.xy[:, 0] >= view.camera.width // 2).all()
    assert len(cache.load(left_masked(view)).keypoints) == len(kept)


def test_descriptors_come_from_what_is_not_masked(tmp_path: Path) -> None:
    view = make_views(tmp_path, 1)[0]
    cache = FeatureCache(tmp_path / "cache", GridExtractor())
    hidden = replace(view, load_mask=lambda: np.zeros((view.camera.height, view.camera.width), bool))
    options = RenderOptions(backend="reference")
    assert aggregate_descriptors(true_gaussians(), [view], cache, options, quiet=True).any()
    assert not aggregate_descriptors(true_gaussians(), [hidden], cache, options, quiet=True).any()


def test_transparent_parts_of_a_mask_are_not_used(tmp_path: Path) -> None:
    root = write_scene(tmp_path)
    mask = np.full((48, 64, 4), 255, np.uint8)
    mask[:, :32, 3] = 0
    mask[:10, :, :3] = 0
    cv2.imwrite(str(root / "masks" / "a.png"), mask)
    view = only_view(root)
    assert view.load_mask is not None
    used = view.load_mask()
    assert used[10:, 32:].all() and not used[:10].any() and not used[:, :32].any()


def test_masks_that_leave_nothing_or_little_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for black, said in ((10, ""), (60, "warning: the masks leave out 62%")):
        root = write_scene(tmp_path)
        mask = np.full((48, 64), 255, np.uint8)
        mask[: black * 48 // 96, :] = 0
        cv2.imwrite(str(root / "masks" / "a.png"), mask)
        check_masks([only_view(root)])
        assert capsys.readouterr().err.startswith(said)
    cv2.imwrite(str(root / "masks" / "a.png"), np.zeros((48, 64), np.uint8))
    with pytest.raises(GSplatLocError, match="black everywhere: invert or remove them"):
        check_masks([only_view(root)])
