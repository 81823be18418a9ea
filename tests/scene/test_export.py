"""Maps written and read back, and files that other tools wrote."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement
from safetensors.torch import save_file

from gsplatloc.scene import export
from gsplatloc.scene.ply import read_vertices, write_vertices
from gsplatloc.utils.errors import GSplatLocError
from tests.scene.maps import make_gaussians, write_old_map


@pytest.mark.parametrize(("count", "degree", "channels"), [(5, 3, 64), (1, 0, 0), (0, 1, 2), (3, 2, 16)])
def test_a_map_comes_back_with_descriptors_in_half_precision(
    tmp_path: Path, count: int, degree: int, channels: int
) -> None:
    gaussians = make_gaussians(count, degree, channels)
    export.save_gaussians(tmp_path, 7, gaussians)
    loaded = export.load_gaussians(tmp_path)
    for name, tensor in replace(gaussians, features=gaussians.features.half().float()).parameters().items():
        assert torch.equal(tensor, loaded.parameters()[name]), name
        assert loaded.parameters()[name].dtype == torch.float32, name


@pytest.mark.parametrize("decoder", [None, torch.ones(64, 4)])
def test_an_old_map_with_descriptors_in_the_ply_is_read(tmp_path: Path, decoder: torch.Tensor | None) -> None:
    gaussians = replace(make_gaussians(), feature_decoder=decoder)
    path = write_old_map(tmp_path, gaussians)
    loaded = export.load_gaussians(tmp_path)
    for name, tensor in gaussians.parameters().items():
        assert torch.equal(tensor, loaded.parameters()[name]), name
    assert export.read_splat(path).features.shape == (5, 0)


def test_a_map_written_over_an_old_one_leaves_nothing_of_it(tmp_path: Path) -> None:
    write_old_map(tmp_path, replace(make_gaussians(), feature_decoder=torch.ones(64, 4)))
    path = export.save_gaussians(tmp_path, 1, make_gaussians(3))
    assert sorted(file.name for file in path.parent.iterdir()) == ["features.safetensors", "point_cloud.ply"]
    export.save_gaussians(tmp_path, 1, make_gaussians(2, channels=0))
    assert [file.name for file in path.parent.iterdir()] == ["point_cloud.ply"]
    assert export.load_gaussians(tmp_path).features.shape == (2, 0)


def test_a_later_map_of_an_earlier_run_is_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for iteration in (30, 100, 20):
        export.save_gaussians(tmp_path, iteration, make_gaussians())
    export.report_later_iterations(tmp_path, 100)
    assert not capsys.readouterr().err
    export.report_later_iterations(tmp_path, 20)
    assert "iteration 100 of an earlier run" in capsys.readouterr().err


@pytest.mark.parametrize("decoder", [b"junk", None, torch.ones(64, 5)])
def test_a_broken_decoder_of_an_old_map_is_a_users_error(
    tmp_path: Path, decoder: bytes | torch.Tensor | None
) -> None:
    path = write_old_map(tmp_path, make_gaussians(channels=4)).with_name("feature_decoder.safetensors")
    if isinstance(decoder, bytes):
        path.write_bytes(decoder)
    else:
        save_file({"other": torch.ones(1)} if decoder is None else {"feature_decoder": decoder}, path)
    with pytest.raises(GSplatLocError, match=path.name):
        export.load_gaussians(tmp_path)


def test_parameters_that_are_not_finite_are_a_users_error(tmp_path: Path) -> None:
    gaussians = make_gaussians()
    gaussians.log_scales[2, 1] = torch.nan
    with pytest.raises(GSplatLocError, match="expected finite Gaussians"):
        export.read_splat(export.save_gaussians(tmp_path, 7, gaussians))


def test_the_decoder_is_saved_beside_the_map(tmp_path: Path) -> None:
    gaussians = replace(make_gaussians(), feature_decoder=torch.ones(64, 4))
    export.save_gaussians(tmp_path, 7, gaussians)
    decoder = export.load_gaussians(tmp_path).feature_decoder
    assert decoder is not None and torch.equal(decoder, torch.ones(64, 4))


def test_the_latest_iteration_is_loaded_unless_another_is_asked_for(tmp_path: Path) -> None:
    for iteration, count in ((30, 2), (7, 1), (100, 3)):
        export.save_gaussians(tmp_path, iteration, make_gaussians(count))
    assert len(export.load_gaussians(tmp_path)) == 3
    assert len(export.load_gaussians(tmp_path, 7)) == 1
    with pytest.raises(GSplatLocError, match="iteration 8"):
        export.load_gaussians(tmp_path, 8)


def test_a_folder_without_a_map_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match=r"run gsplatloc train"):
        export.load_gaussians(tmp_path)


def test_properties_have_the_names_and_the_order_of_splat_viewers(tmp_path: Path) -> None:
    gaussians = make_gaussians(2, degree=1, channels=2)
    vertices = read_vertices(export.save_gaussians(tmp_path, 1, gaussians))
    assert vertices.dtype.names is not None and len(vertices.dtype.names) == 26
    assert vertices.dtype.names[:9] == ("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2")
    assert vertices.dtype.names[9:18] == tuple(f"f_rest_{i}" for i in range(9))
    assert vertices.dtype.names[18:22] == ("opacity", "scale_0", "scale_1", "scale_2")
    assert vertices.dtype.names[22:] == tuple(f"rot_{i}" for i in range(4))
    # f_rest goes channel by channel: the second red coefficient is f_rest_1
    assert vertices["f_rest_1"][0] == gaussians.sh[0, 2, 0]
    assert vertices["f_rest_3"][0] == gaussians.sh[0, 1, 1]


def test_a_splat_of_doubles_in_another_order_is_read(tmp_path: Path) -> None:
    gaussians = make_gaussians(3, degree=0, channels=0)
    vertices = read_vertices(export.save_gaussians(tmp_path, 1, gaussians))
    assert vertices.dtype.names is not None
    shuffled = np.zeros(3, [(name, "f8") for name in reversed(vertices.dtype.names)])
    for name in vertices.dtype.names:
        shuffled[name] = vertices[name]
    write_vertices(tmp_path / "other.ply", shuffled)
    assert torch.equal(export.load_gaussians(tmp_path / "other.ply").means, gaussians.means)


@pytest.mark.parametrize(("byte_order", "text"), [("<", False), (">", False), ("<", True)])
def test_every_format_of_ply_is_read_and_left_free(tmp_path: Path, byte_order: str, text: bool) -> None:
    gaussians = make_gaussians(3, degree=1)
    vertices = read_vertices(export.save_gaussians(tmp_path, 1, gaussians))
    vertex = PlyElement.describe(vertices, "vertex")
    PlyData([vertex], text=text, byte_order=byte_order).write(tmp_path / "other.ply")
    read = read_vertices(tmp_path / "other.ply")
    loaded = export.load_gaussians(tmp_path / "other.ply")
    assert torch.allclose(loaded.sh, gaussians.sh, rtol=1e-6) and loaded.means.dtype == torch.float32
    before = read["x"].tolist()
    (tmp_path / "other.ply").write_bytes(b"overwritten in place")
    assert read["x"].tolist() == before
    if Path("/proc/self/maps").exists():
        assert "other.ply" not in Path("/proc/self/maps").read_text()


def test_an_ascii_point_cloud_is_read(tmp_path: Path) -> None:
    text = "ply\nformat ascii 1.0\ncomment made by hand\nelement vertex 2\nproperty float x\n"
    text += "property uchar red\nelement face 0\nproperty list uchar int vertex_index\nend_header\n"
    (tmp_path / "points.ply").write_text(text + "1.5 7\n-2 255\n")
    vertices = read_vertices(tmp_path / "points.ply")
    assert vertices["x"].tolist() == [1.5, -2.0] and vertices["red"].tolist() == [7, 255]


def test_a_point_cloud_is_not_a_splat(tmp_path: Path) -> None:
    write_vertices(tmp_path / "points.ply", np.zeros(2, [("x", "f4"), ("y", "f4"), ("z", "f4")]))
    with pytest.raises(GSplatLocError, match="scale_0"):
        export.read_splat(tmp_path / "points.ply")


def test_a_file_cut_short_is_a_users_error(tmp_path: Path) -> None:
    path = export.save_gaussians(tmp_path, 1, make_gaussians())
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(GSplatLocError, match="early end-of-file"):
        export.read_splat(path)


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG", b"ply\n", b"ply\nformat\nelement vertex x\nend_header\n"]
)
def test_something_else_is_a_users_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.ply").write_bytes(content)
    with pytest.raises(GSplatLocError, match=r"odd\.ply"):
        export.read_splat(tmp_path / "odd.ply")
