"""Features that are computed once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gsplatloc.mapping.feature_cache import CachedKeypoints, FeatureCache
from gsplatloc.scene.cameras import View


def test_features_come_back_as_they_were_extracted(
    tmp_path: Path, tiny_views: list[View], extractor: Any
) -> None:
    features = extractor.extract(tiny_views[0].load_image())
    loaded = FeatureCache(tmp_path, extractor).load(tiny_views[0])
    assert torch.equal(loaded.keypoints.xy, features.keypoints.xy)
    assert torch.allclose(loaded.dense, features.dense, atol=1e-3)  # kept in half precision
    assert torch.allclose(loaded.keypoints.descriptors, features.keypoints.descriptors, atol=1e-3)


def test_another_run_computes_nothing(tmp_path: Path, tiny_views: list[View], extractor: Any) -> None:
    FeatureCache(tmp_path, extractor).prepare(tiny_views, quiet=True)
    FeatureCache(tmp_path, extractor).prepare(tiny_views, quiet=True)
    assert extractor.calls == len(tiny_views)


def test_another_extractor_or_image_is_computed_anew(
    tmp_path: Path, tiny_views: list[View], extractor: Any
) -> None:
    view = tiny_views[0]
    FeatureCache(tmp_path, extractor).load(view)
    extractor.version = "grid-2"
    FeatureCache(tmp_path, extractor).load(view)
    darker = replace(view, load_image=lambda: view.load_image() // 2)
    FeatureCache(tmp_path, extractor).load(darker)
    assert extractor.calls == 3


def test_a_damaged_entry_is_computed_anew(tmp_path: Path, tiny_views: list[View], extractor: Any) -> None:
    FeatureCache(tmp_path, extractor).load(tiny_views[0])
    next(tmp_path.iterdir()).write_bytes(b"cut short")
    FeatureCache(tmp_path, extractor).load(tiny_views[0])
    assert extractor.calls == 2


def test_keypoints_are_read_on_demand(tmp_path: Path, tiny_views: list[View], extractor: Any) -> None:
    keypoints = CachedKeypoints(FeatureCache(tmp_path, extractor), tiny_views)
    assert len(keypoints) == 6 and extractor.calls == 0
    assert torch.equal(keypoints[2].xy, keypoints[1:3][1].xy)
    assert extractor.calls == 2


def test_the_dense_map_is_read_in_half_precision(
    tmp_path: Path, tiny_views: list[View], extractor: Any
) -> None:
    dense = FeatureCache(tmp_path, extractor).load_dense(tiny_views[0])
    assert dense.dtype == np.float16 and dense.shape == (4, 4, 5)
