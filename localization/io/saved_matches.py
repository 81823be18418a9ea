"""The matches of localized queries, for the viewer: the points of the map on which each pose rests."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from gsplatloc.localization.evaluation import QueryResult
from gsplatloc.localization.io import JSON_LINES_NAME
from gsplatloc.localization.io.json_lines import LocalizedQuery, read_json_lines
from gsplatloc.localization.result import Matches
from gsplatloc.utils.tensors import stored_tensors, write_tensors

FILE_NAME = "matches.safetensors"
_MOST = 200  # matches kept of a query, 33 bytes each: enough to see where they lie
_NO_MATCHES = Matches(np.zeros((0, 2)), np.zeros((0, 3)), np.zeros(0, bool))


def write_matches(path: Path, results: Sequence[QueryResult]) -> None:
    """Write the matches of each query's pose, in the order of queries.jsonl, atomically.

    `counts` [Q] int64, `pixels` [M, 2] float32, `points` [M, 3] float64 in the scene's world, `inliers` [M]
    bool, M the sum of `counts`. Of more than 200 matches of a query, 200 are kept, evenly chosen.
    """
    kept = [_thinned(result.localization.final.matches or _NO_MATCHES) for result in results]
    parts = [_NO_MATCHES, *kept]  # so that there is one without any query
    write_tensors(
        path,
        {
            "counts": torch.tensor([len(matches) for matches in kept], dtype=torch.int64),
            "pixels": torch.from_numpy(np.concatenate([m.pixels for m in parts])).float(),
            "points": torch.from_numpy(np.concatenate([m.points for m in parts])).double(),
            "inliers": torch.from_numpy(np.concatenate([m.inliers for m in parts])),
        },
    )


def read_localized(folder: Path) -> list[LocalizedQuery]:
    """The queries with a pose in a folder of results, with their matches where these were saved.

    Raises `GSplatLocError` for damaged files.
    """
    queries = read_json_lines(folder / JSON_LINES_NAME)
    path = folder / FILE_NAME
    if not path.is_file():
        return queries
    with stored_tensors(path, "matches of localized queries", "localize again") as (tensors, _):
        stored = {name: tensor.numpy() for name, tensor in tensors.items()}
        ends = np.cumsum(stored["counts"]).tolist()
        columns = [np.split(stored[name], ends[:-1]) for name in ("pixels", "points", "inliers")]
        if {len(stored[name]) for name in ("pixels", "points", "inliers")} != {sum(stored["counts"])}:
            raise ValueError(f"{sum(stored['counts'])} matches counted and others stored")
        matches = [Matches(*parts) for parts in zip(*columns)]
        return [replace(query, matches=matches[query.line]) for query in queries]


def _thinned(matches: Matches) -> Matches:
    if len(matches) <= _MOST:
        return matches
    index = np.linspace(0, len(matches) - 1, _MOST).round().astype(int)
    return Matches(matches.pixels[index], matches.points[index], matches.inliers[index])
