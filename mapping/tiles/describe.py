"""The descriptors of all mapping views, by which blocks are cut and a query's tiles are found."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.localization.initial.view_index import pool, vocabulary
from gsplatloc.localization.tiles.place_index import PlaceWords
from gsplatloc.mapping.feature_cache import FeatureCache
from gsplatloc.scene.cameras import View

_WORDS = 32  # of the vocabulary
_SAMPLE = 1000  # views that the vocabulary and the principal components are made of
_COMPONENTS = 256
_SEED = 0


def describe_views(cache: FeatureCache, views: Sequence[View]) -> tuple[PlaceWords, Tensor]:
    """The vocabulary of a place, and the descriptor [V, P] of every view. Memory: 8 kB for a sampled view."""
    generator = torch.Generator().manual_seed(_SEED)
    chosen = torch.randperm(len(views), generator=generator)[:_SAMPLE].sort().values.tolist()
    few = [_dense(cache, views[index]) for index in chosen[:: max(1, len(chosen) // 250)]]
    words = vocabulary(few, _WORDS, generator)
    sample = torch.stack([pool(_dense(cache, views[index]), words) for index in chosen])
    mean = sample.mean(0)
    size = min(_COMPONENTS, len(sample), sample.shape[1])
    projection = torch.linalg.svd(sample - mean, full_matrices=False).Vh[:size].T.contiguous()
    place = PlaceWords(words, mean, projection)
    descriptors = torch.stack([place.describe(_dense(cache, view)) for view in views])
    return place, F.normalize(descriptors, dim=1)


def _dense(cache: FeatureCache, view: View) -> Tensor:
    return torch.from_numpy(cache.load_dense(view)).float()
