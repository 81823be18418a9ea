"""Cameras found in a splat of which only the Gaussians are known."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.localization.alignment.rendered_view import to_image
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.result import Status
from gsplatloc.mapping import from_splat, virtual_cameras
from gsplatloc.mapping.from_splat import map_splat
from gsplatloc.mapping.options import FromSplatOptions, VirtualCameraOptions
from gsplatloc.mapping.splat_frame import up_direction
from gsplatloc.mapping.virtual_cameras import find_cameras
from gsplatloc.scene.cameras import PosedCamera
from gsplatloc.scene.export import save_gaussians
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from tests.mapping.test_from_splat import CAMERA, look, make_room

UP = (0.0, -1.0, 0.0)
HALF = torch.tensor([2.0, 1.5, 2.0], dtype=torch.float64)  # of the room


@pytest.fixture(scope="module", autouse=True)
def fewer_places() -> Iterator[None]:
    """Enough for a box, and seconds instead of a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(virtual_cameras, "_PLACES_DRAWN", 40)
        patch.setattr(virtual_cameras, "_PLACES_GROWN", 20)
        patch.setattr(virtual_cameras, "_PLACES", 8)
        yield


@pytest.fixture(scope="module")
def room() -> Gaussians:
    return make_room(per_side=60)


@pytest.fixture(scope="module")
def cameras(room: Gaussians) -> list[PosedCamera]:
    return find_cameras(room, 60, VirtualCameraOptions(up=UP), quiet=True)


def centers(cameras: list[PosedCamera]) -> torch.Tensor:
    return se3.camera_center(torch.stack([camera.cam_from_world for camera in cameras]))


def test_cameras_stand_in_the_room_and_not_at_its_walls(cameras: list[PosedCamera]) -> None:
    assert (HALF - centers(cameras).abs()).min() > 0.1


def test_up_is_not_estimated_where_it_is_given(room: Gaussians, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual_cameras, "up_direction", lambda splat: pytest.fail("estimated"))
    assert find_cameras(room, 1, VirtualCameraOptions(up=UP), quiet=True)


def test_cameras_are_level(cameras: list[PosedCamera]) -> None:
    rights = torch.stack([camera.cam_from_world[0, :3] for camera in cameras])
    downs = torch.stack([camera.cam_from_world[1, :3] for camera in cameras])
    assert rights[:, 1].abs().max() < 1e-6 and (downs[:, 1] > 0.8).all()


def test_images_have_the_width_that_is_asked_for(room: Gaussians, cameras: list[PosedCamera]) -> None:
    found = find_cameras(room, 3, VirtualCameraOptions(up=UP, width=1200), quiet=True)
    assert found[0].camera == cameras[0].camera.resized(1200, 900)
    assert torch.equal(centers(found), centers(cameras[:3])), "the search does not depend on it"
    with pytest.raises(GSplatLocError, match="--width of 80 to 4096"):
        VirtualCameraOptions(width=0)


def share_seen_from_three_places(room: Gaussians, cameras: list[PosedCamera]) -> float:
    """Of the room's Gaussians."""
    seen: dict[tuple[float, ...], torch.Tensor] = {}
    for view, place in zip(cameras, centers(cameras).mul(1000).round().tolist()):
        small = view.camera.resized(80, 60)
        shown = render(room, small, view.cam_from_world, RenderOptions()).radii > 0
        seen[tuple(place)] = seen.get(tuple(place), torch.zeros(len(room), dtype=torch.bool)) | shown
    return (torch.stack(list(seen.values())).sum(0) >= 3).float().mean().item()


def test_most_of_the_room_is_seen_from_three_places(room: Gaussians, cameras: list[PosedCamera]) -> None:
    assert share_seen_from_three_places(room, cameras) > 0.9


def test_a_part_of_a_large_splats_gaussians_is_enough_to_choose_views(
    room: Gaussians, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(virtual_cameras, "_COUNTED", len(room) // 8)
    found = find_cameras(room, 60, VirtualCameraOptions(up=UP), quiet=True)
    assert share_seen_from_three_places(room, found) > 0.9


def score(gaussians: Gaussians, *position: float) -> float:
    """How much a view from a position is like a photograph."""
    faces = virtual_cameras._faces(torch.tensor(UP, dtype=torch.float64))
    return virtual_cameras._seen_from(gaussians, torch.tensor(position, dtype=torch.float64), faces).score


@pytest.mark.parametrize("height", [1.1, 2.1])  # metres above the walls
def test_nobody_stands_above_the_walls_of_a_room_without_a_ceiling(room: Gaussians, height: float) -> None:
    wide = room.means * torch.tensor([2.0, 1.0, 2.0])
    splat = replace(room, means=wide, log_scales=room.log_scales + torch.tensor(2.0).log())
    splat = splat.select(wide[:, 1] > -1.4)
    inside, above = score(splat, 0.5, 0.0, -0.5), score(splat, 0.5, -1.4 - height, -0.5)
    assert above < virtual_cameras._REACHED * inside, (above, inside)


def test_fog_shows_nothing(room: Gaussians) -> None:
    generator = torch.Generator().manual_seed(0)
    index = torch.randperm(len(room), generator=generator)[:40]
    fog = replace(room.select(index), log_scales=torch.full((40, 3), 0.7).log())
    assert score(room, 0.2, 0.0, 0.1) > 0.7
    assert score(fog, 0.2, 0.0, 0.1) < 0.1, "surfaces all round, of a few large Gaussians"


def test_photos_are_localized_in_a_map_made_without_cameras(tmp_path: Path) -> None:
    room = make_room()
    options = FromSplatOptions(views=48, quiet=True)
    map_splat(room, tmp_path, Path("room.spz"), None, options, virtual=VirtualCameraOptions(up=UP))
    localizer = Localizer.load(tmp_path)
    for x, z, yaw in ((0.1, -0.2, 0.5), (-0.2, 0.1, 2.2), (0.4, 0.3, 4.0)):
        truth = look(x, z, yaw)
        found = localizer.localize(to_image(render(room, CAMERA, truth, RenderOptions()).rgb), CAMERA)
        assert found.status is Status.OK
        error_m = (se3.camera_center(found.final.pose()) - se3.camera_center(truth)).norm().item()
        assert error_m < 0.1 and error_m < 3 * (found.final.expected_translation_m or 0)


def test_a_folder_with_a_map_is_refused_before_cameras_are_looked_for(
    room: Gaussians, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_gaussians(tmp_path, 0, room)
    monkeypatch.setattr(from_splat, "find_cameras", None)
    with pytest.raises(GSplatLocError, match="without a map"):
        map_splat(room, tmp_path, Path("room.spz"), None, FromSplatOptions(quiet=True))


@pytest.mark.parametrize(("factor", "offset"), [(1e-3, 0.0), (1.0, 4.0e6)])
def test_unit_and_origin_do_not_matter(
    room: Gaussians, cameras: list[PosedCamera], factor: float, offset: float
) -> None:
    other = replace(
        room,
        means=room.means.double() * factor + offset,
        log_scales=room.log_scales + torch.tensor(factor).log(),
    )
    found = find_cameras(other, 60, VirtualCameraOptions(up=UP), quiet=True)
    assert len(found) == pytest.approx(len(cameras), abs=3)
    expected = {tuple(row) for row in centers(cameras).mul(100).round().tolist()}
    moved = (centers(found) - offset) / factor
    matching = [tuple(row) in expected for row in moved.mul(100).round().tolist()]
    assert sum(matching) > 0.8 * len(matching)


def make_ball() -> Gaussians:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(4000, 3, generator=generator)
    points = points / points.norm(dim=1, keepdim=True) * torch.rand(4000, 1, generator=generator) ** (1 / 3)
    return Gaussians(
        points,
        torch.tensor([1.0, 0, 0, 0]).repeat(4000, 1),
        torch.full((4000, 3), 0.05).log(),
        torch.full((4000,), 4.0),
        torch.randn(4000, 1, 3, generator=generator),
        torch.zeros(4000, 0),
    )


def test_an_object_is_seen_from_outside() -> None:
    found = find_cameras(make_ball(), 40, VirtualCameraOptions(up=UP), quiet=True)
    assert len(found) >= 8 and centers(found).norm(dim=1).min() > 1
    towards = torch.stack(
        [-(view.cam_from_world[2, :3] @ center) for view, center in zip(found, centers(found))]
    )
    assert (towards > 0).all(), "they look at it"


def test_of_an_object_it_is_said_and_up_is_that_of_most_files(
    room: Gaussians, capsys: pytest.CaptureFixture[str]
) -> None:
    lying = make_ball()  # least wide along x, which a room would have as up
    lying = replace(lying, means=lying.means * torch.tensor([0.3, 1.0, 0.5]))
    found = find_cameras(lying, 10)
    printed = capsys.readouterr()
    assert "from outside, as at an object" in printed.err and "up is 0.0 -1.0 0.0" in printed.out
    rights = torch.stack([camera.cam_from_world[0, :3] for camera in found])
    assert rights[:, 1].abs().max() < 1e-6, "level"
    find_cameras(room, 4, VirtualCameraOptions(up=UP))
    assert "object" not in capsys.readouterr().err


@pytest.mark.parametrize(("surfaces", "expected"), [(1, True), (4, False)])
def test_a_building_is_no_object_because_something_is_all_round(surfaces: int, expected: bool) -> None:
    depths = torch.zeros(4, 45, 80)
    depths[:surfaces, 10:] = 2.0
    beside = torch.tensor([[1.5, 0.0, 0.0], [0.0, 0.0, 1.5]], dtype=torch.float64)
    places = [virtual_cameras._Place(position, depths, 1.0) for position in beside]
    up = torch.tensor(UP, dtype=torch.float64)
    assert virtual_cameras._beside_object(make_ball(), places, up) == expected


def test_the_progress_bar_ends_before_the_error(capsys: pytest.CaptureFixture[str]) -> None:
    fog = replace(make_ball(), log_scales=torch.full((4000, 3), 1.0))  # wherever a camera is, it touches it
    with pytest.raises(GSplatLocError, match="free space and surfaces"):
        find_cameras(fog, 10)
    assert capsys.readouterr().err.endswith("\n")


def furnished(room: Gaussians) -> Gaussians:
    """A room with more Gaussians near its floor, in the coordinates of its core."""
    noise = torch.randn(9000, 3, generator=torch.Generator().manual_seed(0))
    means = torch.cat([room.means, noise * 0.1 + torch.tensor([0.0, 1.2, 0.0])])
    parameters = {name: torch.cat([tensor, tensor[:9000]]) for name, tensor in room.per_gaussian().items()}
    return Gaussians(**{**parameters, "means": means / 2.1})


def test_up_is_the_short_side_with_more_below(room: Gaussians) -> None:
    up = up_direction(furnished(room))
    assert up @ torch.tensor(UP, dtype=torch.float64) > 0.99


def test_a_splat_with_nothing_opaque_is_a_users_error(room: Gaussians) -> None:
    faint = replace(room, opacity_logits=torch.full((len(room),), -5.0))
    with pytest.raises(GSplatLocError, match="found none"):
        find_cameras(faint, 10, quiet=True)


def test_up_does_not_depend_on_the_order_of_gaussians(room: Gaussians) -> None:
    generator = torch.Generator().manual_seed(0)
    splat = furnished(room)
    noise = 0.1 * torch.randn(len(splat), 4, generator=generator)
    splat = replace(splat, quaternions=splat.quaternions + noise)  # normals of a captured wall are not alike
    up = up_direction(splat)
    shuffled = splat.select(torch.randperm(len(splat), generator=generator))
    assert (up_direction(shuffled) - up).norm() < 1e-4
    moved = replace(splat, means=splat.means + 1e-4 * torch.randn(splat.means.shape, generator=generator))
    assert (up_direction(moved) - up).norm() < 1e-4
