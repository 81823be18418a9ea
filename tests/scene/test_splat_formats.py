"""Splat formats: written, read back and rendered; tiny files as other tools write them; damaged files."""

import gzip
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement
from safetensors.torch import load_file, save_file

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.scene.cameras import Camera, PosedCamera
from gsplatloc.scene.export import load_gaussians
from gsplatloc.scene.formats import SPLAT_FORMATS, read_splat, sog, splat_format, write_splat
from gsplatloc.scene.formats import gaussforge as library
from gsplatloc.scene.formats.values import with_axes
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError

FORMATS = SPLAT_FORMATS.names()
NATIVE = ("ply", "splat", "ksplat", "glb", "small")
DEGREES = {"splat": 0, "ksplat": 2}  # the highest that a format keeps
CAMERA = Camera(96, 72, 80.0, 80.0, 48.0, 36.0)
# PSNR that a format itself allows: harmonics of 5 and 4 bits (spz).
LEAST_DB = {("spz", 2): 38}


def needs_library(format: str) -> None:
    if format not in NATIVE:
        pytest.importorskip("gaussforge")


def make_splat(count: int = 3000, degree: int = 2) -> Gaussians:
    """A wall with colours that vary slowly, in front of a camera at the origin."""
    generator = torch.Generator().manual_seed(0)
    xy = 4 * torch.rand(count, 2, generator=generator) - 2
    z = 3 + 0.3 * torch.sin(2 * xy[:, :1])
    sh = 0.05 * torch.randn(count, (degree + 1) ** 2, 3, generator=generator)
    sh[:, 0] += torch.cat([xy.sin(), xy[:, :1].cos()], 1)
    return Gaussians(
        means=torch.cat([xy, z], 1),
        quaternions=torch.randn(count, 4, generator=generator),
        log_scales=-3 + 0.3 * torch.randn(count, 3, generator=generator),
        opacity_logits=2 + torch.randn(count, generator=generator),
        sh=sh,
        features=torch.zeros(count, 0),
    )


def picture(gaussians: Gaussians) -> torch.Tensor:
    return render(gaussians, CAMERA, torch.eye(4), RenderOptions()).rgb


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("degree", [0, 2])
def test_a_written_splat_is_rendered_as_the_original(tmp_path: Path, format: str, degree: int) -> None:
    needs_library(format)
    gaussians = make_splat(degree=min(degree, DEGREES.get(format, 2)))
    path = tmp_path / f"splat{SPLAT_FORMATS[format].make().suffix}"
    assert splat_format(path) == format
    write_splat(path, gaussians)
    found = read_splat(path)
    assert len(found) == len(gaussians) and found.sh.shape == gaussians.sh.shape
    error = (picture(found) - picture(gaussians)).square().mean()
    assert -10 * error.log10() > LEAST_DB.get((format, degree), 40)


@pytest.mark.parametrize(("format", "degree", "least_db"), [("ksplat", 2, 45), ("compressed_ply", 3, 45)])
def test_colours_seen_from_given_cameras_survive_coarse_coefficients(
    tmp_path: Path, format: str, degree: int, least_db: float
) -> None:
    needs_library(format)
    gaussians = make_splat(degree=degree)
    gaussians.sh[:, 0] *= 2  # colours of degree 0 leave [0, 1] at many Gaussians
    path = tmp_path / f"splat{SPLAT_FORMATS[format].make().suffix}"
    errors = []
    for views in ((), [PosedCamera(CAMERA, torch.eye(4).double())]):
        write_splat(path, gaussians, views=views)
        errors.append(-10 * (picture(read_splat(path)) - picture(gaussians)).square().mean().log10())
    assert errors[1] > max(least_db, errors[0] + 2)


def test_coefficients_of_gaussians_that_no_camera_sees_are_only_rounded(tmp_path: Path) -> None:
    gaussians, behind = make_splat(), torch.diag(torch.tensor([-1.0, 1, -1, 1])).double()
    write_splat(plain := tmp_path / "a.ksplat", gaussians)
    write_splat(path := tmp_path / "b.ksplat", gaussians, views=[PosedCamera(CAMERA, behind)])
    assert torch.equal(read_splat(path).sh, read_splat(plain).sh)


def test_harmonics_of_a_compressed_ply_are_stored_channel_by_channel(tmp_path: Path) -> None:
    splat = make_splat(300, 1)
    splat.sh[:, 1:] = (torch.arange(9.0).reshape(3, 3).T / 4)[None]  # all coefficients of red are the first
    write_splat(path := tmp_path / "a.compressed.ply", splat)
    row = PlyData.read(path)["sh"].data[0]
    assert [row[f"f_rest_{number}"] for number in range(9)] == [128 + 8 * number for number in range(9)]


def test_a_ply_is_read_back_bit_by_bit(tmp_path: Path) -> None:
    for degree in range(4):
        gaussians = make_splat(50, degree)
        write_splat(tmp_path / "splat.ply", gaussians)
        for name, tensor in read_splat(tmp_path / "splat.ply").parameters().items():
            assert torch.equal(tensor, gaussians.parameters()[name]), name


def test_harmonics_in_a_sog_share_a_palette_where_there_are_more_than_it_can_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gaussforge")
    monkeypatch.setattr(sog, "_MAX_PALETTE", 8)
    gaussians = make_splat(3000, 1)
    kinds = torch.randn(20, 3, 3, generator=torch.Generator().manual_seed(1))
    gaussians.sh[:, 1:] = kinds[torch.arange(3000) % 20]
    write_splat(path := tmp_path / "a.sog", gaussians)
    found = read_splat(path)
    distance = torch.cdist(found.sh[:, 1:].flatten(1), kinds.flatten(1)).amin(1)
    assert (distance < 0.05).float().mean() > 0.9, "only where a half ends within a kind, two are mixed"
    error = (picture(found) - picture(gaussians)).square().mean()
    assert -10 * error.log10() > 30
    with zipfile.ZipFile(path) as archive:
        assert json.loads(archive.read("meta.json"))["shN"]["count"] <= 256


@pytest.mark.parametrize("format", ["glb", "ksplat", "splat"])
def test_positions_and_colours_survive_in_the_same_order(tmp_path: Path, format: str) -> None:
    gaussians = make_splat(40, DEGREES.get(format, 3))
    write_splat(path := tmp_path / f"x.{format}", gaussians)
    found = read_splat(path)
    assert torch.equal(found.means, gaussians.means)
    assert torch.allclose(found.log_scales, gaussians.log_scales, atol=1e-6)
    assert torch.equal(found.sh[:, 1:], gaussians.sh[:, 1:])
    assert torch.allclose(found.opacities, gaussians.opacities, atol=0.003)


def test_axes_turn_a_splat_as_a_rotation_does() -> None:
    gaussians = make_splat(200, 3)
    pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    turned = with_axes(gaussians, (1, -1, -1))
    there = render(turned, CAMERA, pose, RenderOptions()).rgb
    assert torch.allclose(there, picture(gaussians), atol=1e-5)


def write_vertices(path: Path, values: dict[str, np.ndarray], order: str = "<", text: bool = False) -> None:
    count = len(next(iter(values.values())))
    table = np.empty(count, [(name, column.dtype) for name, column in values.items()])
    for name, column in values.items():
        table[name] = column
    PlyData([PlyElement.describe(table, "vertex")], text=text, byte_order="=" if text else order).write(path)


def vertex_values(names: str, count: int = 5) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {name: generator.normal(size=count).astype(np.float32) for name in names.split()}


def test_a_small_file_keeps_positions_of_a_wide_scene_and_what_one_far_floater_does_not_spoil(
    tmp_path: Path,
) -> None:
    splat = make_splat()
    splat.means[0], splat.log_scales[1] = torch.tensor([1000.0, 0.0, 0.0]), -60.0
    splat.sh[2, 1:] = 50.0  # an outlier
    write_splat(path := tmp_path / "a.small", splat)
    found = read_splat(path)
    assert (found.means - splat.means).abs().max() < 1e-4
    assert (found.log_scales[2:] - splat.log_scales[2:]).abs().max() < 0.04
    assert float(found.log_scales[1].exp().max()) < 1e-5
    assert (found.sh[3:, 1:] - splat.sh[3:, 1:]).abs().quantile(0.99) < 0.002
    assert (found.opacities - splat.opacities).abs().max() < 0.003
    assert path.stat().st_size < 3000 * (23 + 24) + 2000


@pytest.mark.parametrize("column", ["means", "log_scales", "rest"])
def test_a_small_file_with_columns_of_other_lengths_is_a_users_error(tmp_path: Path, column: str) -> None:
    write_splat(path := tmp_path / "a.small", make_splat(50))
    tensors = load_file(path)
    tensors[column] = tensors[column][:, :-1].contiguous()
    save_file(tensors, path, {"format": "gsplatloc-small-1"})
    with pytest.raises(GSplatLocError, match="expected"):
        read_splat(path)


@pytest.mark.parametrize(("order", "text"), [("<", False), (">", False), ("<", True)])
def test_a_ply_of_any_encoding_with_more_and_fewer_properties_is_read(
    tmp_path: Path, order: str, text: bool
) -> None:
    names = "opacity x y z quality scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3 f_dc_0 f_dc_1 f_dc_2"
    values = vertex_values(names)
    write_vertices(tmp_path / "a.ply", values, order, text)
    found = read_splat(tmp_path / "a.ply")
    assert found.sh.shape == (5, 1, 3)
    assert np.allclose(found.means[:, 1], values["y"], rtol=1e-5)
    assert np.allclose(found.quaternions[:, 3], values["rot_3"], rtol=1e-5)


def test_what_a_ply_lacks_is_assumed_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = vertex_values("x y z scale_0 scale_1")
    values |= {name: np.full(5, 51, np.uint8) for name in ("red", "green", "blue")}
    write_vertices(tmp_path / "a.ply", values)
    found = read_splat(tmp_path / "a.ply")
    assert torch.allclose(0.5 + 0.28209479 * found.sh[:, 0], torch.full((5, 3), 0.2))
    assert torch.equal(found.quaternions, torch.tensor([[1.0, 0, 0, 0]]).repeat(5, 1))
    assert bool((found.opacities == 1).all()) and bool(
        (found.scales.amin(1) < 0.01 * found.scales.amax(1)).all()
    )
    said = capsys.readouterr().err
    assert "discs" in said and "no rotations" in said and "no opacities" in said


def test_a_row_of_splat_is_activated_values_and_bytes(tmp_path: Path) -> None:
    row = struct.pack("<6f8B", 1, 2, 3, 0.1, 0.2, 0.4, 255, 0, 128, 51, 128, 0, 128, 128)
    (tmp_path / "a.splat").write_bytes(row)
    found = read_splat(tmp_path / "a.splat")
    assert found.means.tolist() == [[1, 2, 3]]
    assert torch.allclose(found.scales, torch.tensor([[0.1, 0.2, 0.4]]))
    assert abs(float(found.opacities) - 0.2) < 1e-6
    assert found.quaternions.tolist() == [[0, -1, 0, 0]]


def make_ksplat(level: int) -> bytes:
    """Three Gaussians of degree 1 in a full and a partly filled bucket, packed by the rules."""
    main = bytearray(4096)
    struct.pack_into("<BB2xIIIIH", main, 0, 0, 1, 1, 1, 3, 3, level)
    struct.pack_into("<ff", main, 36, -1.0, 1.0)
    part = bytearray(1024)
    struct.pack_into("<IIIIfHxxIIIIH", part, 0, 3, 3, 2, 2, 5.0, 12, 100, 0, 1, 1, 1)
    buckets = struct.pack("<I", 1) + struct.pack("<6f", 0, 0, 0, 10, 20, 30)
    harmonics = {1: np.arange(9, dtype="<f2"), 2: np.arange(9, dtype="u1") * 10}[level].tobytes()
    shape = np.array([0.5, 0.5, 0.25, 1, 0, 0, 0], "<f2").tobytes()
    rows = [
        struct.pack("<3H", x, 100, 100) + shape + bytes([255, 0, 0, 255]) + harmonics for x in (100, 200, 0)
    ]
    return bytes(main + part) + buckets + b"".join(rows)


@pytest.mark.parametrize("level", [1, 2])
def test_buckets_of_a_compressed_ksplat_place_their_gaussians(tmp_path: Path, level: int) -> None:
    (tmp_path / "a.ksplat").write_bytes(make_ksplat(level))
    found = read_splat(tmp_path / "a.ksplat")
    assert torch.allclose(found.means, torch.tensor([[0, 0, 0], [2.5, 0, 0], [7.5, 20, 30]]))
    stored = {1: torch.arange(9.0), 2: -1 + torch.arange(9) * 20 / 255}[level]
    assert torch.allclose(found.sh[0, 1:].T.flatten(), stored)  # all of red, then all of green


def test_nodes_of_a_glb_move_its_gaussians(tmp_path: Path) -> None:
    gaussians = make_splat(300, 1)
    write_splat(path := tmp_path / "a.glb", gaussians)
    data = path.read_bytes()
    size = struct.unpack_from("<I", data, 12)[0]
    document = json.loads(data[20 : 20 + size])
    half = 0.5**0.5
    document["nodes"] = [
        {"children": [1], "scale": [2, 2, 2], "translation": [1, 0, 0]},
        {"mesh": 0, "rotation": [0, half, 0, half]},
    ]
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + size :]
    path.write_bytes(
        struct.pack("<4sIIII", b"glTF", 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A) + text + rest
    )
    found = read_splat(path)
    up = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))  # of the axes of .ply in those of glTF
    quarter = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    similarity = 2 * up @ quarter @ up
    assert torch.allclose(found.means, gaussians.means @ similarity.T + torch.tensor([-1.0, 0, 0]), atol=1e-5)
    pose = se3.inverse(se3.from_rotation_translation(up @ quarter @ up, torch.tensor([-1.0, 0, 0])))
    assert torch.allclose(render(found, CAMERA, pose, RenderOptions()).rgb, picture(gaussians), atol=2e-3)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("keep", [0.0, 0.02, 0.5, 0.98])
def test_a_file_cut_short_is_one_line_that_names_it(tmp_path: Path, format: str, keep: float) -> None:
    needs_library(format)
    path = tmp_path / f"cut{SPLAT_FORMATS[format].make().suffix}"
    write_splat(path, make_splat(301, DEGREES.get(format, 2)))
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) // 4 * 4 + 1])
    with pytest.raises(GSplatLocError) as caught:
        read_splat(path)
    assert path.name in str(caught.value) and "\n" not in str(caught.value)


def test_a_glb_with_four_sizes_a_gaussian_is_one_line(tmp_path: Path) -> None:
    write_splat(path := tmp_path / "a.glb", make_splat(10, 0))
    sizes = b'"KHR_gaussian_splatting:SCALE": '
    data = path.read_bytes()
    assert sizes + b"3" in data
    path.write_bytes(data.replace(sizes + b"3", sizes + b"2"))  # the accessor of the rotations
    shapes = r"log_scales of shape \(10, 4\) instead of \(10, 3\)"
    with pytest.raises(GSplatLocError, match=f"expected a splat in .*a.glb, found {shapes}: restore it"):
        read_splat(path)


def test_a_ksplat_without_buckets_is_one_line(tmp_path: Path) -> None:
    data = bytearray(make_ksplat(1))
    struct.pack_into("<H", data, 4096 + 20, 0)  # bytes of a bucket
    (tmp_path / "a.ksplat").write_bytes(data)
    with pytest.raises(GSplatLocError, match=r"expected a splat in .*a.ksplat, found .*size 0.*: restore it"):
        read_splat(tmp_path / "a.ksplat")


def test_counts_beyond_the_file_allocate_nothing(tmp_path: Path) -> None:
    many = 4_000_000_000
    main = bytearray(make_ksplat(1))
    struct.pack_into("<II", main, 4096, many, many)
    (tmp_path / "a.ksplat").write_bytes(main)
    write_splat(tmp_path / "b.glb", make_splat(10, 0))
    data = (tmp_path / "b.glb").read_bytes()
    (tmp_path / "b.glb").write_bytes(data.replace(b'"count": 10', b'"count":9e9'))
    names = ["a.ksplat", "b.glb"]
    if library.available():
        header = struct.pack("<4sIIBBBB", b"NGSP", 3, many, 0, 12, 0, 0)
        (tmp_path / "c.spz").write_bytes(gzip.compress(header + bytes(100)))
        names.append("c.spz")
    for name in names:
        with pytest.raises(GSplatLocError, match=name):
            read_splat(tmp_path / name)


def test_another_file_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0" * 10)
    with pytest.raises(GSplatLocError, match=r"photo\.jpg.*another kind of file"):
        read_splat(tmp_path / "photo.jpg")


def test_without_the_library_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "available", lambda: False)
    with pytest.raises(GSplatLocError, match=r'pip install "gsplatloc\[formats\]"'):
        write_splat(tmp_path / "a.spz", make_splat(3))


def test_gaussians_too_far_for_spz_are_refused(tmp_path: Path) -> None:
    gaussians = make_splat(3)
    gaussians.means[1, 0] = 5_000_000
    with pytest.raises(GSplatLocError, match=r"5e\+06"):
        write_splat(tmp_path / "a.spz", gaussians)


def test_files_of_other_tools_with_the_same_splats_are_read_the_same(shared_data: Path) -> None:
    pytest.importorskip("gaussforge")
    folder = shared_data / "splat_samples"
    first, second = (read_splat(folder / f"biker{suffix}") for suffix in (".compressed.ply", ".spz"))
    assert (first.means - second.means).abs().max() < 1 / 4096
    assert (first.opacity_logits - second.opacity_logits).abs().max() < 1e-3
    assert (first.sh - second.sh).abs().max() < 0.02
    rotations = [
        se3.rotation_from_quaternion(torch.nn.functional.normalize(splat.quaternions))
        for splat in (first, second)
    ]
    assert (rotations[0] - rotations[1]).abs().max() < 0.01


def test_every_sample_is_read(shared_data: Path) -> None:
    pytest.importorskip("gaussforge")
    for path in sorted((shared_data / "splat_samples").glob("*.[ps]*")):
        assert len(load_gaussians(path)) > 0
