"""Frames of RedKitchen, and views of the synthetic room, posed from scratch and compared with the truth."""

import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch
from PIL import Image

from gsplatloc.datasets.options import RoomOptions
from gsplatloc.datasets.room import make_room
from gsplatloc.localization.features import Features, make_extractor
from gsplatloc.localization.matching.images.keypoints import KeypointMatcher
from gsplatloc.localization.matching.nearest import mutual_nearest
from gsplatloc.mapping import posing
from gsplatloc.mapping.options import PosingOptions
from gsplatloc.mapping.posing import pose_images
from gsplatloc.mapping.posing.database import cameras_by_size
from gsplatloc.mapping.triangulation import MIN_SIMILARITY
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import View
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError

TOP_K = 1500
QUIET = PosingOptions(quiet=True)
EXIF_IFD, FOCAL_35MM = 0x8769, 0xA405


class CountingExtractor:
    """XFeat that counts the images that it described."""

    def __init__(self) -> None:
        self._xfeat = make_extractor(top_k=TOP_K)
        self.calls = 0
        for name in ("name", "version", "channels", "device", "top_k", "dense_size"):
            setattr(self, name, getattr(self._xfeat, name))

    def extract(self, image: np.ndarray) -> Features:
        self.calls += 1
        return self._xfeat.extract(image)


def frames(shared_data: Path) -> list[View]:
    return read_scene(shared_data / "pgt_7scenes_redkitchen").train[:30:5]


@pytest.fixture(scope="module")
def posed(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images/, their model in sparse/0, and the work folder of the run that posed them."""
    root = tmp_path_factory.mktemp("posed")
    (root / "images").mkdir()
    for view in frames(shared_data):
        shutil.copy(view.image_path, root / "images")
    pose_images(root / "images", root / "sparse" / "0", root / "work", make_extractor(top_k=TOP_K), QUIET)
    return root


def test_every_image_is_posed(posed: Path, shared_data: Path) -> None:
    assert_poses(read_scene(posed).train, frames(shared_data))


ROOM = RoomOptions(train=12, test=0, arc=0.5, supersampling=1, seed=2)


def test_views_from_inside_a_room_are_not_posed_depth_reversed(tmp_path: Path) -> None:
    """Few of their pairs see points under a large angle, and the focal length is not in the images."""
    make_room(tmp_path, ROOM)
    truth = read_scene(tmp_path).train
    (tmp_path / "m").mkdir()
    images = (tmp_path / "train" / "rgb").rename(tmp_path / "m" / "images")
    pose_images(images, tmp_path / "m" / "sparse" / "0", tmp_path / "work", make_extractor(top_k=2048), QUIET)
    assert_poses(read_scene(tmp_path / "m").train, truth)


def assert_poses(views: Sequence[View], expected: Sequence[View]) -> None:
    """Every view is posed, up to a similarity transform."""
    truth = {view.name: view.cam_from_world for view in expected}
    assert [view.name for view in views] == sorted(truth)
    ours = torch.stack([view.cam_from_world for view in views])
    theirs = torch.stack([truth[view.name] for view in views])
    error = after_alignment(ours, theirs)
    turned = torch.rad2deg(se3.so3_log(from_first(ours) @ from_first(theirs).transpose(1, 2)).norm(dim=1))
    centers = se3.camera_center(theirs)
    extent = (centers.amax(0) - centers.amin(0)).norm()
    assert error.max() < 0.05 * extent
    assert turned.max() < 3.0  # degrees; the focal length comes from six frames


def test_keypoints_are_aligned_to_a_fraction_of_a_pixel(posed: Path) -> None:
    """XFeat alone ends at about a pixel."""
    model = pycolmap.Reconstruction(str(posed / "sparse" / "0"))
    errors = [point.error for point in model.points3D.values()]
    assert len(errors) > 300
    assert np.median(errors) < 0.35
    assert max(errors) < 2.0


def from_first(poses: torch.Tensor) -> torch.Tensor:
    """Rotations [N, 3, 3] from the first camera: they need no alignment."""
    return poses[:, :3, :3] @ poses[0, :3, :3].T


def after_alignment(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Distances of the centres after the best similarity transform (Umeyama 1991)."""
    a, b = se3.camera_center(ours), se3.camera_center(theirs)
    from_a, from_b = a - a.mean(0), b - b.mean(0)
    u, s, vt = torch.linalg.svd(from_b.T @ from_a)
    flip = torch.diag(torch.tensor([1.0, 1.0, float(torch.sign(torch.det(u @ vt)))], dtype=torch.float64))
    rotation = u @ flip @ vt
    scale = (s * flip.diagonal()).sum() / from_a.square().sum()
    return (scale * from_a @ rotation.T - from_b).norm(dim=1)


def test_a_stopped_run_goes_on_from_its_features_and_matches(
    posed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(
        posed / "work", tmp_path / "work"
    )  # as if it had been killed before the model was written
    extractor = CountingExtractor()
    monkeypatch.setattr(posing, "match_keypoints", lambda *_: pytest.fail("matched again"))
    pose_images(posed / "images", tmp_path / "model", tmp_path / "work", extractor, QUIET)  # type: ignore[arg-type]
    assert extractor.calls == 0
    found = pycolmap.Reconstruction(str(tmp_path / "model"))
    assert found.num_reg_images() == 6


def test_images_that_descriptors_do_not_connect_are_matched_by_the_network(
    posed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Oracle(KeypointMatcher):
        """Finds what mutual nearest neighbours find, which the test takes away from the first pass."""

        def pair(self, a, size_a, b, size_b):  # noqa: ANN001, ANN202
            pairs = mutual_nearest(a.descriptors, b.descriptors, MIN_SIMILARITY)
            return pairs.index_a, pairs.index_b, pairs.similarity

    monkeypatch.setattr(posing, "match_keypoints", lambda *_: np.empty((0, 2), np.uint32))
    monkeypatch.setattr(posing, "matcher_for", Oracle)
    extractor = make_extractor(top_k=TOP_K)
    pose_images(posed / "images", tmp_path / "model", tmp_path / "work", extractor, QUIET)
    assert pycolmap.Reconstruction(str(tmp_path / "model")).num_reg_images() == 6


def test_fewer_than_three_images_are_a_users_error(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    with pytest.raises(GSplatLocError, match="at least 3 images"):
        pose_images(tmp_path, tmp_path / "model", tmp_path / "work", make_extractor(), QUIET)


def test_images_of_nothing_are_a_users_error_and_leave_no_model(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for index in range(3):
        Image.new("RGB", (64, 48), (40 * index, 0, 0)).save(tmp_path / "images" / f"{index}.png")
    with pytest.raises(GSplatLocError, match="expected 3 images that overlap, found 0"):
        pose_images(tmp_path / "images", tmp_path / "model", tmp_path / "work", make_extractor(), QUIET)
    assert not (tmp_path / "model").exists()


def test_images_share_a_camera_by_size_and_focal_length(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(EXIF_IFD)[FOCAL_35MM] = 50
    for name, size, data in (("a", (90, 60), None), ("b", (60, 90), None), ("c", (90, 60), None),
                             ("d", (90, 60), exif)):  # fmt: skip
        Image.new("RGB", size).save(tmp_path / f"{name}.jpg", **({} if data is None else {"exif": data}))
    a, b, c, d = cameras_by_size([tmp_path / f"{name}.jpg" for name in "abcd"], "SIMPLE_RADIAL")
    assert a is c and a is not b and a is not d
    assert (b.width, b.height) == (60, 90)
    assert d.has_prior_focal_length and not a.has_prior_focal_length


def test_the_database_is_one_that_colmap_reads(posed: Path) -> None:
    (path,) = (posed / "work").glob("matches-*.db")
    with sqlite3.connect(path) as database:
        (images,) = database.execute("select count(*) from images").fetchone()
        (cameras,) = database.execute("select count(*) from cameras").fetchone()
    assert (images, cameras) == (6, 1)
