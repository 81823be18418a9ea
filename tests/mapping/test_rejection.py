"""A small map of a real kitchen: it finds its own views and refuses photos of other places."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from gsplatloc.localization.features.xfeat import XFeatExtractor
from gsplatloc.localization.initial.landmarks import LandmarkPose
from gsplatloc.localization.localizer import Localizer
from gsplatloc.mapping.landmarks import build_landmarks
from gsplatloc.mapping.triangulation import triangulate
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import View
from gsplatloc.scene.readers.options import SceneOptions
from tests.localization.world import pose_errors

MAPPED, HELD_OUT, OTHERS = 24, 4, 4  # views; photos of each other place


@pytest.fixture(scope="module")
def kitchen(shared_data: Path) -> Sequence[View]:
    """The first training views of RedKitchen."""
    views = read_scene(shared_data / "pgt_7scenes_redkitchen", SceneOptions()).train
    return views[10 : 10 + MAPPED + HELD_OUT]


@pytest.fixture(scope="module")
def localizer(kitchen: Sequence[View]) -> Localizer:
    """A map without every seventh of the views."""
    views = [view for number, view in enumerate(kitchen) if number % 7 != 3]
    extractor = XFeatExtractor("cpu", top_k=1024)
    tracks = triangulate(views, [extractor.extract(view.load_image()).keypoints for view in views])
    landmarks = build_landmarks(views, tracks, extractor.version)
    return Localizer(LandmarkPose(landmarks), extractor, max_side=640)


def test_views_of_the_kitchen_are_found(kitchen: Sequence[View], localizer: Localizer) -> None:
    for view in kitchen[3::7]:
        estimate = localizer.localize(view.load_image(), view.camera).final
        translation, rotation = pose_errors(estimate.cam_from_world, view.cam_from_world)
        assert translation < 0.05 and rotation < 1.0
        assert estimate.expected_translation_m is not None and estimate.expected_translation_m < 0.05


@pytest.mark.parametrize("focal_known", [True, False])
@pytest.mark.parametrize("place", ["nerf_fox/images", "tum_livingroom1/rgb", "colmap_south_building/images"])
def test_photos_of_other_places_are_rejected(
    shared_data: Path, localizer: Localizer, kitchen: Sequence[View], place: str, focal_known: bool
) -> None:
    paths = sorted((shared_data / place).iterdir())
    for path in paths[:: len(paths) // OTHERS][:OTHERS]:
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        image = cv2.resize(image, (640, 480), interpolation=cv2.INTER_AREA)
        camera = kitchen[0].camera if focal_known else None
        assert not localizer.localize(np.ascontiguousarray(image), camera).final.ok
