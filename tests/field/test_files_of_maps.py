"""Maps of other tools, and maps whose files are damaged."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement
from safetensors.torch import save_file

from gsplatloc.gaussian_renderer import render
from gsplatloc.localization.landmarks.file import load_landmarks
from gsplatloc.scene.cameras import Camera, View
from gsplatloc.scene.checkpoint import load_checkpoint
from gsplatloc.scene.formats import read_splat, write_splat
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.map_config import (
    MapConfig,
    longest_side,
    read_cameras,
    read_config,
    write_cameras,
    write_config,
)
from gsplatloc.utils.errors import GSplatLocError

CAMERA = Camera(64, 48, 60.0, 61.0, 30.0, 25.0)
DEEP = "[" * 100_000
LONG_NUMBER = "9" * 5000
LONG_TEXT = '"' + "x" * 100_000 + '"'


def gaussians(count: int = 6) -> Gaussians:
    generator = torch.Generator().manual_seed(0)
    return Gaussians(
        means=torch.randn(count, 3, generator=generator),
        quaternions=torch.randn(count, 4, generator=generator),
        log_scales=torch.randn(count, 3, generator=generator),
        opacity_logits=torch.randn(count, generator=generator),
        sh=torch.randn(count, 4, 3, generator=generator),
        features=torch.zeros(count, 0),
    )


@pytest.mark.parametrize("name", ["means", "quaternions", "log_scales", "sh"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_rows_that_are_not_finite_are_left_out_with_a_count(
    tmp_path: Path, name: str, value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = gaussians()
    getattr(broken, name)[2].view(-1)[-1] = value
    write_splat(tmp_path / "splat.ply", broken)
    found = read_splat(tmp_path / "splat.ply")
    torch.testing.assert_close(found.means, gaussians().means[[0, 1, 3, 4, 5]])
    assert "left out 1 of 6 Gaussians" in capsys.readouterr().err


def test_an_infinite_opacity_logit_is_opaque_and_its_negative_is_invisible(tmp_path: Path) -> None:
    broken = gaussians()
    broken.opacity_logits[:2] = torch.tensor([torch.inf, -torch.inf])
    write_splat(tmp_path / "splat.ply", broken)
    found = read_splat(tmp_path / "splat.ply")
    assert len(found) == 5 and found.opacities[0] == 1


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [("log_scales", 88.0, 5), ("log_scales", 60.0, 5), ("log_scales", 1e4, 5), ("log_scales", 40.0, 6)]
    + [("log_scales", -1e30, 6), ("means", 3e38, 5), ("means", -1e20, 5), ("means", 1e15, 6)]
    + [("opacity_logits", 1e30, 6), ("sh", 1e30, 6), ("quaternions", 1e30, 6)],
)
def test_any_splat_that_is_read_can_be_rendered(tmp_path: Path, name: str, value: float, kept: int) -> None:
    broken = gaussians()
    getattr(broken, name)[2] = value
    write_splat(tmp_path / "splat.ply", broken)
    found = read_splat(tmp_path / "splat.ply")
    assert len(found) == kept
    assert bool(render(found, CAMERA, torch.eye(4)).rgb.isfinite().all())


@pytest.mark.parametrize("length", [1e-30, 1e-42, 1e25])
def test_quaternions_of_any_length_are_rotations(tmp_path: Path, length: float) -> None:
    splat = gaussians()
    expected = torch.nn.functional.normalize(splat.quaternions)
    splat.quaternions = (length * splat.quaternions.double()).float()
    write_splat(tmp_path / "splat.ply", splat)
    found = torch.nn.functional.normalize(read_splat(tmp_path / "splat.ply").quaternions)
    assert (found - expected).abs().max() < (1e-6 if length > 1e-38 else 0.01)


def test_quaternions_of_zeros_are_no_rotation_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    splat = gaussians()
    splat.quaternions[2:4] = 0
    write_splat(tmp_path / "splat.ply", splat)
    found = read_splat(tmp_path / "splat.ply")
    assert len(found) == 6 and found.quaternions[2:4].tolist() == [[1, 0, 0, 0]] * 2
    assert "2 of 6 Gaussians have a quaternion of zeros" in capsys.readouterr().err


UTM = np.array([448262.0, 5411932.0, 312.0])


def write_far(path: Path, splat: Gaussians, kind: str) -> None:
    """Write the splat far from the origin, its positions with the type `kind`."""
    write_splat(path, splat)
    rows = PlyData.read(path, mmap=False)["vertex"].data
    moved = np.empty(len(rows), [(n, kind if n in "xyz" else "<f4") for n in rows.dtype.names])
    for name in rows.dtype.names:
        moved[name] = rows[name]
    for axis, name in enumerate("xyz"):
        moved[name] = rows[name].astype(np.float64) + UTM[axis]
    PlyData([PlyElement.describe(moved, "vertex")], byte_order="<").write(path)


def test_a_splat_that_lost_its_digits_far_away_is_refused(tmp_path: Path) -> None:
    splat = gaussians(50)
    splat.log_scales -= 4
    write_far(tmp_path / "far.ply", splat, "<f4")
    for double in (False, True):
        with pytest.raises(GSplatLocError, match="splat near the origin .* steps of 0.65"):
            read_splat(tmp_path / "far.ply", double)
    write_far(tmp_path / "double.ply", splat, "<f8")
    found = read_splat(tmp_path / "double.ply", double=True).means
    assert (found - torch.from_numpy(UTM) - splat.means).abs().max() < 1e-6
    with pytest.raises(GSplatLocError, match="splat near the origin"):
        read_splat(tmp_path / "double.ply")


def test_small_gaussians_near_the_origin_are_read(tmp_path: Path) -> None:
    splat = gaussians(50)
    splat.log_scales -= 30
    write_splat(tmp_path / "points.ply", splat)
    assert torch.equal(read_splat(tmp_path / "points.ply").means, splat.means)


@pytest.mark.parametrize("count", ["99999999999", "9" * 30, "-5", "1e9", "nan"])
def test_a_count_in_a_ply_header_allocates_nothing(tmp_path: Path, count: str) -> None:
    path = tmp_path / "splat.ply"
    for layout in ("ascii", "binary_little_endian"):
        header = f"format {layout} 1.0\nelement vertex {count}\nproperty float x"
        path.write_text(f"ply\n{header}\nend_header\n")
        with pytest.raises(GSplatLocError, match=r"splat\.ply"):
            read_splat(path)


def test_cameras_of_vanilla_3dgs_have_their_principal_point_in_the_centre(tmp_path: Path) -> None:
    view = View("a", CAMERA, torch.eye(4, dtype=torch.float64), Path(), lambda: np.zeros(0))
    write_cameras(tmp_path, [view])
    entries = json.loads((tmp_path / "cameras.json").read_text())
    del entries[0]["cx"], entries[0]["cy"]
    (tmp_path / "cameras.json").write_text(json.dumps(entries))
    assert read_cameras(tmp_path)[0].camera == Camera(64, 48, 60.0, 61.0, 32.0, 24.0)


def test_cameras_of_other_programs_without_a_name_are_read(tmp_path: Path) -> None:
    entry = {"id": 3, "width": 64, "height": 48.0, "fx": 60, "position": [1, 2, 3]}
    rotation = np.eye(3).flatten().tolist()
    (tmp_path / "cameras.json").write_text(json.dumps([entry | {"rotation": rotation}]))
    found = read_cameras(tmp_path)[0]
    assert found.camera == Camera(64, 48, 60.0, 60.0, 32.0, 24.0) and found.name == "3"


BROKEN_CAMERAS = [
    DEEP, LONG_NUMBER, "5", "null", '{"a": 1}', "[5]", "[null]", "", "\x00", LONG_TEXT, "[{}]",
    *('[{"img_name": "a", "position": [0, 0, 0], "rotation": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "width": 64,'
      f' "height": 48, "fx": 60, "fy": 60, {broken}}}]' for broken in (
          f'"width": {LONG_NUMBER[:400]}', '"width": 1e999', '"height": 0', '"height": -3', '"fx": 0',
          '"fx": NaN',
          f'"cx": {LONG_NUMBER[:400]}', '"img_name": 5', '"img_name": null', '"position": [0, 0]',
          '"position": "a"', '"rotation": [[0, 0, 0], [0, 0, 0], [0, 0, 0]]', f'"fx": {LONG_TEXT}',
          f'"position": [0, {LONG_NUMBER[:400]}, 0]', '"position": [NaN, 0, 0]', '"rotation": {"a": 1}',
      )),
]  # fmt: skip


@pytest.mark.parametrize("content", BROKEN_CAMERAS, ids=range(len(BROKEN_CAMERAS)))
def test_broken_cameras_are_one_short_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "cameras.json").write_text(content)
    with pytest.raises(GSplatLocError) as error:
        read_cameras(tmp_path)
    assert len(str(error.value)) < 500 + len(str(tmp_path))
    try:
        longest_side(tmp_path)
    except GSplatLocError as other:
        assert len(str(other)) < 500 + len(str(tmp_path))


CONFIG_CHANGES = [
    {"scene": None}, {"scene": []}, {"scene": {"images": 5}}, {"scene": {"eval": "no"}}, {"top_k": "many"},
    {"scene": {"resolution": 1.5}}, {"scene": {"resolution": 10**400}}, {"top_k": 10**400},
    {"source_path": None},
    {"extractor": 7}, {"format": DEEP}, {"preset": ["x" * 100_000]}, {"unknown": 1}, {"training": 3},
    {"scene": {"depth_units": -1}}, {"scene": {"depth_units": "NaN"}}, {"version": None}, {"top_k": True},
    {"frame": {"origin": [10**400, 0, 0]}}, {"frame": {"unit": 10**400}}, {"frame": {"origin": [1, 2]}},
]  # fmt: skip


@pytest.mark.parametrize("change", CONFIG_CHANGES, ids=range(len(CONFIG_CHANGES)))
def test_a_broken_config_is_one_short_line(tmp_path: Path, change: dict) -> None:
    write_config(tmp_path, MapConfig("scene"))
    assert read_config(tmp_path).source_path == "scene"
    content = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(GSplatLocError) as error:
        read_config(tmp_path)
    assert len(str(error.value)) < 500 + len(str(tmp_path))


def test_a_config_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    write_config(tmp_path, MapConfig("scene"))
    path = tmp_path / "config.json"
    for encoding in ("utf-8-sig", "utf-16"):
        path.write_text(path.read_text(encoding="utf-8-sig") if encoding == "utf-8-sig" else json.dumps(
            json.loads(path.read_text(encoding="utf-8-sig"))), encoding=encoding)  # fmt: skip
        assert read_config(tmp_path).source_path == "scene"


def landmark_tensors(count: int = 4) -> dict[str, torch.Tensor]:
    return {
        "positions": torch.zeros(count, 3),
        "descriptors": torch.ones(count, 64, dtype=torch.int8),
        "directions": torch.zeros(count, 3).half(),
        "distances": torch.ones(count, 2).bfloat16(),
        "lengths": torch.ones(count, dtype=torch.int16),
    }


@pytest.mark.parametrize("name", landmark_tensors())
@pytest.mark.parametrize("shape", [(), (0,), (3,), (4,), (4, 1), (5, 3), (4, 3, 1)])
def test_landmarks_of_wrong_shapes_are_one_line(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    if (name, shape) in (("lengths", (4,)), ("descriptors", (4, 1))):
        return  # right, or for the matcher to judge
    path = tmp_path / "landmarks.safetensors"
    for version in ("1", "2"):
        metadata = {"format": f"gsplatloc-landmarks-{version}", "extractor": "x"}
        save_file(landmark_tensors(), path, metadata)
        assert len(load_landmarks(path)) == 4
        save_file(landmark_tensors() | {name: torch.ones(shape)}, path, metadata)
        if not (version == "1" and name == "distances"):  # which it did not have
            with pytest.raises(GSplatLocError, match=r"landmarks\.safetensors"):
                load_landmarks(path)


@pytest.mark.parametrize(
    "metadata",
    [{}, {"gsplatloc": "5"}, {"gsplatloc": "null"}, {"gsplatloc": DEEP}, {"gsplatloc": '{"format": 1}'},
     {"gsplatloc": '{"format": 1, "iteration": "x", "facts": {}}'}, {"gsplatloc": "x" * 100_000},
     {"gsplatloc": '{"format": 1, "iteration": 5, "facts": 5}'}, {"gsplatloc": f'{{"format": {LONG_TEXT}}}'}],
    ids=range(9),
)  # fmt: skip
def test_a_broken_checkpoint_is_one_short_line(tmp_path: Path, metadata: dict[str, str]) -> None:
    path = tmp_path / "checkpoint_2.safetensors"
    save_file({"means": torch.zeros(1)}, path, metadata)
    with pytest.raises(GSplatLocError, match="checkpoint_2") as error:
        load_checkpoint(path)
    assert len(str(error.value)) < 500 + len(str(tmp_path))


def test_the_filter_of_mip_splatting_is_applied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its files hold Gaussians without their 3D filter, which makes them wider and more transparent."""
    stored, path = gaussians(), tmp_path / "a.ply"
    write_splat(path, stored)
    vertices = PlyData.read(path)["vertex"].data
    table = np.empty(len(vertices), [*vertices.dtype.descr, ("filter_3D", "<f4")])
    for name in vertices.dtype.names:
        table[name] = vertices[name]
    table["filter_3D"] = [0.0, 0.5, 1.0, 0.1, 2.0, 0.0]
    PlyData([PlyElement.describe(table, "vertex")]).write(path)
    found = read_splat(path)
    assert "3D filter of Mip-Splatting" in capsys.readouterr().err
    filtered = torch.from_numpy(table["filter_3D"].copy())[:, None]
    variances = (2 * stored.log_scales).exp()
    wider = variances + filtered**2
    opacity = stored.opacity_logits.sigmoid() * (variances / wider).prod(1).sqrt()
    torch.testing.assert_close((2 * found.log_scales).exp(), wider, rtol=1e-5, atol=0)
    torch.testing.assert_close(found.opacity_logits.sigmoid(), opacity, rtol=1e-5, atol=1e-7)


def test_vertices_beyond_those_of_the_header_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.ply"
    write_splat(path, gaussians())
    read_splat(path)
    assert capsys.readouterr().err == ""
    data = path.read_bytes()
    row = len(data.partition(b"end_header\n")[2]) // 6
    path.write_bytes(data.replace(b"vertex 6", b"vertex 4"))
    assert len(read_splat(path)) == 4
    assert f"{2 * row} bytes after the 4 vertices" in capsys.readouterr().err
