"""Localization with network, landmarks and map on a (simulated) GPU gives what it gives on a CPU."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gsplatloc.localization.alignment.exposure import ExposureNetwork
from gsplatloc.localization.features.xfeat import XFeatExtractor
from gsplatloc.localization.initial.landmarks import LandmarkPose
from gsplatloc.localization.landmarks.file import FILE_NAME, save_landmarks
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.matching.images import make_matcher
from gsplatloc.localization.matching.nearest import mutual_nearest
from gsplatloc.localization.options import LocalizerOptions
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine.fine import FineRefiner
from gsplatloc.localization.refine.gscpr import GscprRefiner
from gsplatloc.localization.refine.gsloc import GslocRefiner
from gsplatloc.localization.refine.lm import LmRefiner
from gsplatloc.localization.refine.members import FineOptions, GscprOptions, GslocOptions
from gsplatloc.localization.refine.warp import WarpRefiner
from gsplatloc.scene.export import save_gaussians
from gsplatloc.scene.splat_map import SplatMap
from tests.device.simulated import DEVICE, SimulatedGpu
from tests.localization.rendered_room import Room
from tests.localization.world import CAMERA, TRUTH, World, make_world, pose_errors


def photo() -> np.ndarray:
    """Blobs and edges that XFeat finds keypoints on."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 255, (15, 20, 3), np.uint8)
    return np.repeat(np.repeat(coarse, 16, 0), 16, 1)


def test_features_are_extracted_where_the_network_is(gpu: SimulatedGpu) -> None:
    there, here = (XFeatExtractor(device).extract(photo()) for device in ("cuda", "cpu"))
    for tensor in (there.dense, there.keypoints.xy, there.keypoints.descriptors, there.keypoints.scores):
        assert tensor.device == DEVICE
    assert len(here.keypoints) > 50
    # In another order where a processor computes scores in half precision.
    assert len(there.keypoints) == len(here.keypoints)
    exact = "donot_use_mm_for_euclid_dist"
    distances = torch.cdist(there.keypoints.xy.cpu(), here.keypoints.xy, compute_mode=exact)
    assert distances.amin(1).max() < 1e-3 and distances.amin(0).max() < 1e-3


@pytest.mark.parametrize("block", [None, 64])
def test_descriptors_are_matched_as_on_a_cpu(gpu: SimulatedGpu, block: int | None) -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.nn.functional.normalize(torch.randn(n, 64, generator=generator), dim=1) for n in (200, 300))
    b[:100] = a[:100]
    here = mutual_nearest(a, b, 0.1, block)
    gpu.waits.clear()
    there = mutual_nearest(a.pin_memory().to("cuda", non_blocking=True), gpu.upload(b), 0.1, block)
    assert [wait.operation for wait in gpu.waits] == ["nonzero"]
    assert torch.equal(there.index_a.cpu(), here.index_a) and torch.equal(there.index_b.cpu(), here.index_b)


def on_gpu(query: Query) -> Query:
    keypoints = query.keypoints
    moved = replace(
        keypoints, xy=keypoints.xy.to("cuda"), descriptors=keypoints.descriptors.to("cuda"),
        scores=keypoints.scores.to("cuda"),
    )  # fmt: skip
    return replace(query, keypoints=moved, dense=query.dense.to("cuda"))


def with_xfeat(query: Query) -> Query:
    """The photo with keypoints of its own, which can be compared with those of a rendering."""
    features = XFeatExtractor("cpu").extract(query.image)
    return replace(query, keypoints=features.keypoints, dense=features.dense)


def gscpr(device: str, matcher: str = "mutual", **options: Any) -> GscprRefiner:
    """One round with a matcher of keypoints on `device`."""
    made = make_matcher(matcher, XFeatExtractor(device))
    return GscprRefiner(GscprOptions(rounds=1, **options), matcher=made, exposure=ExposureNetwork())


REFINERS = {
    "fine by tracks": lambda _: FineRefiner(),
    "fine by keypoints": lambda device: FineRefiner(
        FineOptions(match="keypoints", min_inliers=1), extractor=XFeatExtractor(device)
    ),
    "fine by the feature map": lambda _: FineRefiner(FineOptions(match="map", min_inliers=10)),
    "warp": lambda _: WarpRefiner(),
    "lm": lambda _: LmRefiner(),
    "gsloc": lambda _: GslocRefiner(GslocOptions(iterations=20, scale=0.25)),
    "gscpr": gscpr,
    "gscpr by lighterglue": lambda device: gscpr(device, "lighterglue"),
    "gscpr, relative": lambda device: gscpr(device, relative=True),
    "gscpr in solved colours": lambda device: gscpr(device, exposure="affine"),
    "gscpr in learned colours": lambda device: gscpr(device, exposure="act"),
}


@pytest.mark.parametrize("name", REFINERS)
def test_refinement_ends_where_it_ends_on_a_cpu(gpu: SimulatedGpu, room: Room, name: str) -> None:
    initial = room.initial([0.01, -0.008, 0.012, 0.002, 0.003, -0.002])
    query = with_xfeat(room.query) if name.startswith("gscpr") else room.query
    here = REFINERS[name]("cpu").refine(query, room.splat_map, initial)
    on_device = SplatMap(gaussians=room.gaussians.to("cuda"))
    there = REFINERS[name]("cuda").refine(on_gpu(query), on_device, initial)
    assert here.accepted or "keypoints" in name
    assert there.accepted == here.accepted
    # a CPU compares descriptors in bfloat16 first: one match in a hundred is another
    assert max(pose_errors(there.pose(), here.pose())) < (0.1 if name.startswith("gscpr") else 1e-3)


def test_the_prior_is_that_of_a_cpu(gpu: SimulatedGpu) -> None:
    world = make_world()
    (here,) = LandmarkPose(world.landmarks).hypotheses(world.query(CAMERA))
    keypoints = world.features.keypoints
    keypoints = replace(keypoints, xy=keypoints.xy.to("cuda"), descriptors=keypoints.descriptors.to("cuda"))
    moved = replace(world.features, keypoints=keypoints)
    (there,) = LandmarkPose(world.landmarks.to("cuda")).hypotheses(world.query(CAMERA, moved))
    assert torch.equal(there.pose(), here.pose()) and pose_errors(here.pose(), TRUTH)[0] < 0.05


@pytest.mark.parametrize("focal_known", [True, False])
def test_a_localizer_is_loaded_and_used(
    gpu: SimulatedGpu,
    room: Room,
    tmp_path: Path,
    focal_known: bool,
) -> None:
    world: World = make_world()
    landmarks = replace(world.landmarks, extractor=XFeatExtractor().version)
    save_landmarks(landmarks, tmp_path / FILE_NAME)
    save_gaussians(tmp_path, 1, room.gaussians)
    localizer: Any = Localizer.load(tmp_path, LocalizerOptions(device="auto"))
    assert localizer.initial.landmarks.positions.device == localizer.splat_map.gaussians.device == DEVICE
    camera = room.query.camera if focal_known else None
    assert set(localizer.localize(room.query.image, camera).stages) >= {"initial"}
